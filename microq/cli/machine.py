"""`microq doctor` and `microq fetch`: what this machine has and what is missing."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import psutil
import typer

from microq.cli.output import (
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    download_bars,
    emit,
    note,
    run,
    with_queue,
)
from microq.config import Config
from microq.errors import ExtraMissingError, MicroqError, PortTakenError
from microq.fleet import Role

NEEDED_MEMORY = 1 << 30
"""Bytes: three members and seven Python services, with some room."""

NEEDED_BY_BROKER = 200 << 20
"""Bytes: a broker of Kafka under load."""

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


def doctor(
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what this machine lacks, with the remedy.

    Looks at Java, jars, ports, memory, disk, and leftovers of older runs.

    \b
    microq doctor
    microq doctor --queue kafka   what a queue in Kafka needs as well

    Exit code 4 if something needed is missing.
    """
    findings = list(_look(configuration(config, with_queue(backend, sets))))
    emit([dataclasses.asdict(finding) for finding in findings], lambda: _table(findings), as_json=as_json)
    if any(finding.state == MISSING for finding in findings):
        raise typer.Exit(4)


def fetch(config: ConfigOption = None, sets: SetOption = None, backend: QueueOption = None) -> None:
    """Download everything beforehand.

    For a machine, or a classroom, that will have no network.

    \b
    microq fetch
    microq fetch --queue kafka   Kafka's jars as well, 50 MB
    """
    engine = prepare(configuration(config, with_queue(backend, sets)))
    note(f"Everything is in {engine.hazelcast.parent}; Java {engine.java.version} from {engine.java.source}.")


def prepare(config: Config) -> Any:
    """Download what a system needs, make its class-data archives, and return the engine."""
    from microq.engines.provision import check_extras, provide  # noqa: PLC0415 - --help needs none of it
    from microq.system.topology import child_environment  # noqa: PLC0415
    from microq.system.training import missing, train  # noqa: PLC0415

    check_extras(config)
    with download_bars() as progress:
        engine = provide(config, progress)
    if missing(engine, config):
        note("Making class-data archives, which make starts quicker ...")
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(train(engine, config, child_environment(config, "fetch")))
    return engine


def _look(config: Config) -> Iterator[Finding]:
    from microq.engines import jars, kafka_jars  # noqa: PLC0415 - --help needs none of it
    from microq.system import ports, records  # noqa: PLC0415
    from microq.system.topology import specs  # noqa: PLC0415

    brokers = config.has_brokers
    yield from _java(brokers=brokers)
    for jar in jars.ALL:
        state = jars.state(jar)
        path = jars.cache_folder() / jar.filename
        yield Finding(
            jar.filename,
            CLEAN if state == "cached" else WARN,
            f"{state}, {path}",
            "" if state == "cached" else f"`microq fetch` downloads it; offline put {jar.coordinate} there",
        )
    if brokers:
        yield _jars(f"Kafka {kafka_jars.VERSION}", kafka_jars.KAFKA)
    yield from _extras(config)
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


def _java(*, brokers: bool) -> Iterator[Finding]:
    from microq.engines import java, provision  # noqa: PLC0415 - --help needs none of it

    try:
        found = java.find()
    except MicroqError as error:
        yield Finding("Java", MISSING, "none of 17 or later", str(error))
        return
    yield Finding("Java", CLEAN, f"{found.version} at {found.path} (from {found.source})")
    archives = {"class-data archive": provision.member_archive(found)}
    if brokers:
        archives["class-data archive of Kafka"] = provision.broker_archive(found)
    for what, archive in archives.items():
        ready = bool(archive.flags())
        yield Finding(
            what,
            CLEAN if ready else WARN,
            "made" if ready else "not made yet",
            "" if ready else "`microq fetch` makes it, and so does the first `microq up`",
        )


def _jars(what: str, wanted: Sequence[Any]) -> Finding:
    """Look at many jars, and name those that are not there."""
    from microq.engines import jars  # noqa: PLC0415 - --help needs none of it

    states = {jar: jars.state(jar) for jar in wanted}
    lacking = [jar for jar, state in states.items() if state != "cached"]
    folder = (jars.cache_folder() / wanted[0].filename).parent
    if not lacking:
        return Finding(what, CLEAN, f"all {len(wanted)} jars are cached, {folder}")
    first, more = lacking[0], f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return Finding(
        what,
        WARN,
        f"{len(lacking)} of {len(wanted)} jars are missing or damaged, {folder}",
        f"`microq fetch --queue kafka` downloads them; offline put {first.coordinate} there{more}",
    )


def _extras(config: Config) -> Iterator[Finding]:
    from microq.engines.provision import extras  # noqa: PLC0415 - --help needs none of it

    for extra in extras(config):
        try:
            extra.check()
        except ExtraMissingError as error:
            yield Finding(error.library, MISSING, "not installed", f"pip install 'microq[{error.extra}]'")
        else:
            yield Finding(extra.library, CLEAN, version(extra.library))


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
    from microq.system.topology import specs  # noqa: PLC0415 - --help needs none of it

    memory = psutil.virtual_memory().available
    brokers = sum(spec.role is Role.KAFKA for spec in specs(config))
    enough = memory >= NEEDED_MEMORY + brokers * NEEDED_BY_BROKER
    yield Finding(
        "memory",
        CLEAN if enough else WARN,
        f"{memory >> 20} MiB available",
        ""
        if enough
        else f'close something, or set {"[hazelcast] and [kafka]" if brokers else "[hazelcast]"} heap = "128m"',
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
