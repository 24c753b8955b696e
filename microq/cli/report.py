"""`microq report`: a run as an HTML page; and the files that commands write for people and for CI systems."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.chaos.history import FILE
from microq.cli.output import JsonOption, emit, note
from microq.errors import MicroqError, UsageError, reason

REPORT = "report.html"


def writable(path: Path | None) -> Path | None:
    """Check beforehand that a file can be written at a path; raises `UsageError` if not."""
    if path is None:
        return None
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder, so {path.name} cannot be written there; make it first")
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

    It is one HTML page without other files; its path is printed.

    \b
    microq report .microq/runs/2026-11-24T10-02-11-kill-member
    microq report history.jsonl --output lab1.html
    """
    from microq.workflows import finished

    if history.is_dir():
        if not (history / FILE).is_file():
            raise UsageError(f"{history} contains no {FILE}; name the history itself, or the folder of a run")
        history = history / FILE
    file = output or finished.report_path(history)
    file.write_text(finished.report(history), encoding="utf-8")
    emit({"report": str(file)}, lambda: str(file), as_json=as_json)


def report_of(history: Path | str) -> str | None:
    """Write the report of a run that has just ended, and return its path; a failure does not change the verdict."""
    from microq.workflows.finished import write_report

    try:
        return str(write_report(Path(history)))
    except (MicroqError, OSError) as error:
        again = f"`microq report {shlex.quote(str(history))}` tries again"
        note(f"The report could not be written: {reason(error)}; {again}.")
        return None


def write_junit(path: Path | None, cases: Sequence[Any]) -> None:
    """Write cases of `microq.report.junit` if the user named a file."""
    from microq.report.junit import write

    if path:
        write(path, cases)
        note(f"JUnit {path}")
