"""`microq doctor` and `microq fetch`: what this machine has and what is missing."""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass
from typing import Any

import psutil
import typer

from microq.cli.output import (
    ConfigOption,
    JsonOption,
    SetOption,
    configuration,
    download_bars,
    emit,
    note,
    run,
)
from microq.config import Config
from microq.errors import MicroqError, PortTakenError

NEEDED_MEMORY = 1 << 30
"""Bytes: three members and seven Python services, with some room."""

CLEAN, WARN, MISSING = "ok", "warning", "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, how it stands, and what to do about it."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(doctor)
    app.command("fetch")(fetch)


def doctor(config: ConfigOption = None, sets: SetOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine lacks, with the remedy.

    Looks at Java, jars, ports, memory, disk, and leftovers of older runs.

    Exit code 4 if something needed is missing.
    """
    findings = list(_look(configuration(config, sets)))
    emit([dataclasses.asdict(finding) for finding in findings], lambda: _table(findings), as_json=as_json)
    if any(finding.state == MISSING for finding in findings):
        raise typer.Exit(4)


def fetch(config: ConfigOption = None, sets: SetOption = None) -> None:
    """Download everything beforehand.

    For a machine, or a classroom, that will have no network.
    """
    from microq.engines.provision import provide  # noqa: PLC0415 - --help needs none of it
    from microq.system.topology import child_environment  # noqa: PLC0415
    from microq.system.training import missing, train  # noqa: PLC0415

    loaded = configuration(config, sets)
    with download_bars() as progress:
        engine = provide(loaded, progress)
    if missing(engine, loaded):
        note("Making the class-data archive, which makes starts quicker ...")
        loaded.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(train(engine, loaded, child_environment(loaded, "fetch")))
    note(f"Everything is in {engine.hazelcast.parent}; Java {engine.java.version} from {engine.java.source}.")


def _look(config: Config) -> Any:
    from microq.engines import jars, java  # noqa: PLC0415 - --help needs none of it
    from microq.engines.provision import member_archive  # noqa: PLC0415
    from microq.system import ports, records  # noqa: PLC0415
    from microq.system.topology import specs  # noqa: PLC0415

    try:
        found = java.find()
        yield Finding("Java", CLEAN, f"{found.version} at {found.path} (from {found.source})")
        ready = bool(member_archive(found).flags())
        yield Finding(
            "class-data archive",
            CLEAN if ready else WARN,
            "made" if ready else "not made yet",
            "" if ready else "`microq fetch` makes it, and so does the first `microq up`",
        )
    except MicroqError as error:
        yield Finding("Java", MISSING, "none of 17 or later", str(error))
    for jar in jars.ALL:
        state = jars.state(jar)
        path = jars.cache_folder() / jar.filename
        yield Finding(
            jar.filename,
            CLEAN if state == "cached" else WARN,
            f"{state}, {path}",
            "" if state == "cached" else f"`microq fetch` downloads it; offline put {jar.coordinate} there",
        )
    supervisor = records.supervisor_pid(config)
    running = supervisor is not None
    left = [] if running else records.leftovers(config)
    yield Finding(
        "system here",
        CLEAN if not left else WARN,
        f"runs, supervisor pid {supervisor}" if running else f"{len(left)} leftovers" if left else "none runs",
        "`microq down` ends what an earlier run left" if left else "",
    )
    if not running:
        yield from _ports(ports, specs(config))
    yield from _room(config)


def _ports(ports: Any, listed: Any) -> Any:
    taken = 0
    for spec in listed:
        try:
            ports.check(spec.name, spec.address)
        except PortTakenError as error:
            taken += 1
            yield Finding(f"port {spec.address.port}", MISSING, f"{spec.name}: taken by {error.holder}", error.remedy)
    if not taken:
        yield Finding("ports", CLEAN, f"all {len(listed)} are free")


def _room(config: Config) -> Any:
    memory = psutil.virtual_memory().available
    enough = memory >= NEEDED_MEMORY
    yield Finding(
        "memory",
        CLEAN if enough else WARN,
        f"{memory >> 20} MiB available",
        "" if enough else 'close something, or set [hazelcast] heap = "128m"',
    )
    folder = config.project
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    yield Finding(
        "disk",
        CLEAN if writable and free > NEEDED_MEMORY else WARN if writable else MISSING,
        f"{free >> 20} MiB free in {folder}" if writable else f"{folder} cannot be written",
        "" if writable else "run microq in a folder of yours",
    )


def _table(findings: list[Finding]) -> Any:
    from microq.views.terminal import findings_table  # noqa: PLC0415

    return findings_table([dataclasses.astuple(finding) for finding in findings])
