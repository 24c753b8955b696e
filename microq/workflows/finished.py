"""Open a finished run by its name: its logs, its configuration, and the report of its history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from microq.chaos.history import FILE, Entry, read
from microq.config import Config, without_secrets
from microq.errors import NotRunningError, UsageError
from microq.report.run import render
from microq.supervisor import runs

REPORT = "report.html"

SHOWN = 5
"""The number of runs that an error lists."""


def newest_run(config: Config) -> Path:
    """Return the run folder of the running system, else of the last one; raises `NotRunningError`."""
    found = _runs(config)
    if not found:
        raise NotRunningError(f"no run of {config.title} has logs; `microq up` starts one")
    return found[0]


def folder_called(config: Config, run: str) -> Path:
    """Return the folder of a run, given as folder, history or name; raises `UsageError`."""
    given = next((path for path in (Path(run), config.folder / "runs" / run) if path.exists()), None)
    if given is None or not run:
        names = ", ".join(folder.name for folder in _runs(config)[:SHOWN])
        raise UsageError(f"no run is called {run!r}; the last ones are {names or 'none'}")
    return given if given.is_dir() else given.parent


def run_called(config: Config, run: str) -> Path:
    """Return the folder with the logs of a run, given as in `folder_called`.

    A scenario on a running system has only a history: then it is that system's folder. Raises `UsageError`.
    """
    folder = folder_called(config, run)
    if (folder / "logs").is_dir():
        return folder
    if not (folder / FILE).is_file():
        raise UsageError(f"{folder} is not a folder of a run: it has neither logs nor a history")
    used = Path(str(read(folder / FILE)[0].facts.get("folder", "")))
    if not (used / "logs").is_dir():
        raise UsageError(f"the logs of the system that {folder} used are no longer in {used}")
    return used


def config_of(folder: Path, config: Config) -> Config:
    """Return the configuration of the run in a folder; `config` if it has none.

    Its processes may differ from those of the current file.
    """
    return runs.config_of(folder, config.project, config.name) if (folder / runs.CONFIG_FILE).exists() else config


def _runs(config: Config) -> list[Path]:
    """Return the folders of runs that have logs, the newest first."""
    found = (config.folder / "runs").glob("*/logs")
    return [logs.parent for logs in sorted(found, key=lambda logs: logs.stat().st_mtime, reverse=True)]


# -- its report -------------------------------------------------------------------------------------------------------


def report_path(history: Path) -> Path:
    """Return the path of the report of a history; several histories in one folder have one each."""
    return history.with_name(REPORT if history.name == FILE else f"{history.stem}-{REPORT}")


def report(history: Path) -> str:
    """Return the report of a history, a self-contained HTML page. Raises `UsageError`, `MachineError`."""
    entries = read(history)
    return render(entries, str(history), config_toml=_configuration(history, entries))


def write_report(history: Path) -> Path:
    """Write the report of a history beside it and return its path; raises as `report` does, and `OSError`."""
    file = report_path(history)
    file.write_text(report(history), encoding="utf-8")
    return file


def _configuration(history: Path, entries: Sequence[Entry]) -> str:
    """Return the configuration of a run, from its folder or its system's; empty if there is none."""
    folders = [entry.facts.get("folder") for entry in entries if entry.kind == "begin"]
    for folder in (history.parent, *(Path(name) for name in folders if isinstance(name, str) and name)):
        try:
            return without_secrets((folder / runs.CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return ""
