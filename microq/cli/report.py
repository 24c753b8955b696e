"""`microq report`: a run as a page to keep; and the files that other commands write for people and for CI systems."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.chaos.history import FILE
from microq.cli.output import JsonOption, emit, note
from microq.errors import MicroqError, UsageError

REPORT = "report.html"


def writable(path: Path | None) -> Path | None:
    """Check where a file is asked for, before anything is done; raises `UsageError` if none can be written there."""
    if path is None:
        return None
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder, so {path.name} cannot be written there; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: permission denied")
    return path


JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", callback=writable, help="Write the verdicts here, as JUnit's XML.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    history: Annotated[Path, typer.Argument(help="A history, or the folder of its run: .microq/runs/...")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", callback=writable, help="The page.", show_default=f"{REPORT} beside the history"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the report of a run from its history alone.

    It is one HTML page that needs nothing else; its path is printed.

    \b
    microq report .microq/runs/2026-11-24T10-02-11-kill-member
    microq report history.jsonl --output lab1.html
    """
    if history.is_dir():
        if not (history / FILE).is_file():
            raise UsageError(f"{history} holds no {FILE}; name the history itself, or the folder of a run")
        history = history / FILE
    file = output or _beside(history)
    file.write_text(_page(history), encoding="utf-8")
    emit({"report": str(file)}, lambda: str(file), as_json=as_json)


def _beside(history: Path) -> Path:
    """Return where the report of a history goes; several histories in one folder have one each."""
    return history.with_name(REPORT if history.name == FILE else f"{history.stem}-{REPORT}")


def _page(history: Path) -> str:
    from microq.chaos.history import read  # noqa: PLC0415 - --help needs none of it
    from microq.report.page import render  # noqa: PLC0415

    entries = read(history)
    return render(entries, str(history), config_toml=_configuration(history, entries))


def _configuration(history: Path, entries: Sequence[Any]) -> str:
    """Return the configuration that a run had, from its folder or its system's; nothing if there is none."""
    from microq.system.runs import CONFIG_FILE  # noqa: PLC0415 - --help needs none of it

    told = [entry.facts.get("folder") for entry in entries if entry.kind == "begin"]
    for folder in (history.parent, *(Path(name) for name in told if isinstance(name, str) and name)):
        try:
            return (folder / CONFIG_FILE).read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
    return ""


def report_of(history: str) -> str | None:
    """Write the report of a run that has just ended, and return its path; a verdict does not depend on it."""
    file = _beside(Path(history))
    try:
        file.write_text(_page(Path(history)), encoding="utf-8")
    except (MicroqError, OSError) as error:
        note(f"The report could not be written: {error}; `microq report {history}` tries again.")
        return None
    return str(file)


def write_junit(path: Path | None, cases: Sequence[Any]) -> None:
    """Write cases of `microq.report.junit` if a file was asked for."""
    from microq.report.junit import write  # noqa: PLC0415 - --help needs none of it

    if path:
        write(path, cases)
        note(f"JUnit {path}")
