"""`python -m microq.host`: the host behind `microq up -d`, started by it and by nobody else.

It reports events, and then readiness or the error, as JSON lines on a file descriptor that it inherits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microq.config import Config
from microq.engines import provision
from microq.errors import MicroqError
from microq.host import hosting
from microq.system import runs, session


async def _supervise(config: Config, folder: Path, report: int, names: Sequence[str]) -> None:
    ended = asyncio.Event()
    with os.fdopen(report, "w", buffering=1, encoding="utf-8") as parent:

        def tell(body: dict[str, Any]) -> None:
            try:
                if not parent.closed:
                    parent.write(json.dumps(body) + "\n")
            except OSError:
                ended.set()  # whoever started us is gone before we were ready

        try:
            engine = provision.provide(config) if provision.is_needed(config) else None
            hear = lambda event: tell({"event": event.to_json()})  # noqa: E731 - a listener
            async with hosting(config, engine, folder, hear, ended) as (supervisor, _):
                async with session.interruptible(ended):
                    await supervisor.start(names)
                tell({"ready": True})
                parent.close()
                supervisor.train_archive()
                await ended.wait()
        except MicroqError as error:
            logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - its text says it all
            tell({"error": [error.code, error.exit_code, str(error)]})
        except session.Interrupted:
            tell({"error": ["interrupted", 130, "the start was interrupted"]})


def main(project: str, folder: str, report: str, *names: str) -> None:
    """Supervise the system whose configuration lies in `folder` until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s supervisor       %(message)s")
    config = runs.config_of(Path(folder), Path(project))
    asyncio.run(_supervise(config, Path(folder), int(report), names))


if __name__ == "__main__":
    main(*sys.argv[1:])
