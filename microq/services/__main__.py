"""`python -m microq.services ROLE`: the form in which the supervisor starts a service.

It does not import the libraries of the command line, which take 16 MB and 0.15 s in every process. For people the same
service is `microq facade` and so on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from microq import interpreter
from microq.config import Address, load
from microq.errors import MicroqError
from microq.fleet import SERVICES, Role
from microq.services import Maker, place, run


def main(makers: Mapping[Role, Maker] | None = None) -> int:
    """Run one service and return its exit code; `makers` replace the roles' own makers."""
    parser = argparse.ArgumentParser(prog="python -m microq.services")
    parser.add_argument("role", type=Role, choices=list(SERVICES))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--host")
    parser.add_argument("--bind", type=Address.parse, help="listen there instead; the name keeps the port")
    parser.add_argument("--beside", type=Address.parse, action="append", default=[], help="an instance that starts now")
    words = parser.parse_args()
    try:
        maker = (makers or {}).get(words.role)
        config = load(words.config)
        name, address = at = place(words.role, config, words.port, words.host)
        host = "" if address.host == "127.0.0.1" else f" --host {address.host}"
        interpreter.show_as(f"microq {words.role} --port {address.port}{host}", name)
        run(words.role, config, at, words.bind, maker, words.beside)
    except MicroqError as error:
        sys.stderr.write(f"microq: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
