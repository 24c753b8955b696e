"""The folders of runs, of the one that goes on and of those that have ended, for whoever looks into them."""

from __future__ import annotations

from pathlib import Path

from microq.config import Config
from microq.errors import NotRunningError, UsageError

SHOWN = 5
"""Names of runs that an error lists."""


def newest_run(config: Config) -> Path:
    """Return the folder of the system that runs, else of the last one that ran; raises `NotRunningError`."""
    found = _runs(config)
    if not found:
        raise NotRunningError(f"no run of {config.project} has logs; `microq up` starts one")
    return found[0]


def folder_called(config: Config, run: str) -> Path:
    """Return the folder of a run that is given by it, by its history or by its name; raises `UsageError`."""
    given = next((path for path in (Path(run), config.folder / "runs" / run) if path.exists()), None)
    if given is None or not run:
        names = ", ".join(folder.name for folder in _runs(config)[:SHOWN])
        raise UsageError(f"no run is called {run!r}; the last ones are {names or 'none'}")
    return given if given.is_dir() else given.parent


def run_called(config: Config, run: str) -> Path:
    """Return the folder with the logs of a run that is given as for `folder_called`.

    A scenario on a system that ran before has a history only: then it is that system's folder. Raises `UsageError`.
    """
    folder = folder_called(config, run)
    if (folder / "logs").is_dir():
        return folder
    return _of_history(folder)


def config_of(folder: Path, config: Config) -> Config:
    """Return the configuration that the run in a folder had, `config` if it kept none.

    It may have had other processes than today's file lists.
    """
    from microq.system import runs  # noqa: PLC0415 - --help needs none of it

    return runs.config_of(folder, config.project) if (folder / runs.CONFIG_FILE).exists() else config


def _of_history(folder: Path) -> Path:
    from microq.chaos.history import FILE, read  # noqa: PLC0415 - --help needs none of it

    if not (folder / FILE).is_file():
        raise UsageError(f"{folder} is no folder of a run: it has neither logs nor a history")
    used = Path(str(read(folder / FILE)[0].facts.get("folder", "")))
    if not (used / "logs").is_dir():
        raise UsageError(f"the logs of the system that {folder} used are not in {used} any more")
    return used


def _runs(config: Config) -> list[Path]:
    """Return the folders of runs that have logs, the newest first."""
    found = (config.folder / "runs").glob("*/logs")
    return [logs.parent for logs in sorted(found, key=lambda logs: logs.stat().st_mtime, reverse=True)]
