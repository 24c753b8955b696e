"""`microq doctor` and `microq fetch`: what this machine has and what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import typer

from microq.cli.output import (
    TERMINAL,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    emit,
    note,
    run,
    with_queue,
)
from microq.config import Config
from microq.errors import ExitCode
from microq.hints import pasteable


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(doctor)
    app.command("fetch")(fetch)


def doctor(
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what this machine lacks, and how to provide it.

    It checks Java, jars, ports, memory, disk, and processes that older runs left behind.

    \b
    microq doctor
    microq doctor --queue kafka   also what a queue in Kafka needs

    Exit code 4 if something needed is missing.
    """
    from microq.workflows import machine

    found = machine.findings(configuration(config, with_queue(backend, sets)))
    findings = [dataclasses.replace(each, remedy=pasteable(each.remedy)) for each in found]
    emit([dataclasses.asdict(finding) for finding in findings], lambda: _table(findings), as_json=as_json)
    if any(finding.state == machine.MISSING for finding in findings):
        raise typer.Exit(ExitCode.MACHINE)


def fetch(config: ConfigOption = None, sets: SetOption = None, backend: QueueOption = None) -> None:
    """Download everything beforehand.

    For a machine, or a classroom, without a network.

    \b
    microq fetch
    microq fetch --queue kafka   Kafka's jars too, 45 MB
    """
    engine = prepare(configuration(config, with_queue(backend, sets)))
    from microq.backends.jars import cache_folder

    note(f"Everything is in {cache_folder()}; Java {engine.java.version} from {engine.java.source}.")


def prepare(config: Config) -> Any:
    """Download what a system needs, make its class-data archives, and return the engine."""
    from microq.workflows import machine

    engine = machine.download(config, TERMINAL)
    run(machine.make_archives(engine, config, TERMINAL))
    return engine


def _table(findings: Sequence[Any]) -> Any:
    from microq.terminal.status import findings_table

    return findings_table([dataclasses.astuple(finding) for finding in findings])
