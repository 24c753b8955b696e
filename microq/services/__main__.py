"""`python -m microq.services ROLE`: a service as the supervisor starts it, without the command line's libraries.

Those take 16 MB and 0.15 s of every process; `microq facade` and its like are the same service for people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from microq.config import Address, load
from microq.errors import MicroqError
from microq.fleet import Role
from microq.services import ROLES, Maker, run


def main(makers: Mapping[Role, Maker] | None = None) -> int:
    """Run one service and return its exit code; `makers` are other services than the roles' own."""
    parser = argparse.ArgumentParser(prog="python -m microq.services")
    parser.add_argument("role", type=Role, choices=list(ROLES))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--bind", type=Address.parse, help="listen there instead; the name keeps the port")
    words = parser.parse_args()
    try:
        run(words.role, load(words.config), words.port, words.bind, (makers or {}).get(words.role))
    except MicroqError as error:
        sys.stderr.write(f"microq: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
