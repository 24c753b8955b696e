"""What a configuration needs on this machine: find it, download it, and show what is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from microq import caveats
from microq.backends import jars, java
from microq.backends.base import Backend, Extra
from microq.backends.jars import Engine, Parts
from microq.config import Address, Config
from microq.errors import ExtraMissingError, MachineError, MicroqError, PortTakenError
from microq.fleet import SERVERS, Role, backend_of, map_role
from microq.supervisor import ports, records
from microq.supervisor.class_data import missing, train
from microq.supervisor.topology import specs
from microq.workflows import Terminal

NEEDED_MEMORY = 1 << 30
"""Bytes: three members and seven Python services, with some room."""

NEEDED_BY_BROKER = 200 << 20
"""Bytes of a server of a queue that has other servers than the maps, under load: a Kafka broker."""

FEW_JARS = 3
"""The largest number of jars that are listed one by one."""

CLEAN, WARN, MISSING = "ok", "warning", "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: what, its state, and the remedy."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def download(config: Config, terminal: Terminal) -> jars.Engine:
    """Download what the servers need, even if all of them run elsewhere."""
    check_extras(config)
    with terminal.downloads() as progress:
        return provide(config, progress)


def engine_of(config: Config, terminal: Terminal) -> jars.Engine | None:
    """Return what the servers need, downloaded the first time; None if all of them run elsewhere.

    Raises `MachineError` if this machine lacks something.
    """
    check_extras(config)
    return download(config, terminal) if is_needed(config) else None


async def make_archives(engine: jars.Engine, config: Config, terminal: Terminal) -> None:
    """Make the class-data archives of the servers, if some are missing."""
    if missing(engine, config):
        terminal.note("Making class-data archives, which make starts faster ...")
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await train(engine, config, "fetch")


def findings(config: Config) -> Iterator[Finding]:
    """Check Java, jars, libraries, ports, memory, disk, and leftovers of older runs."""
    in_java = [each for each in started(config) if each.in_java]
    yield from _java(in_java)
    for each in in_java:
        yield from _jars(each) if len(each.jars) <= FEW_JARS else [_many_jars(each)]
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
        page = [("the dashboard", config.dashboard.address)] if config.dashboard.enabled else []
        yield from _ports([*((spec.name, spec.address) for spec in specs(config)), *page])
    yield from _copies(config)
    yield from _room(config)


def _copies(config: Config) -> Iterator[Finding]:
    """Compare the configured copies with the servers."""
    for line in caveats.of_configuration(config):
        yield Finding("backup-count", WARN, line, "list more servers, or set a lower [queue] backup-count")


def _java(started: Sequence[Backend]) -> Iterator[Finding]:
    try:
        found = java.find()
    except MicroqError as error:
        yield Finding("Java", MISSING, "none of 17 or later", str(error))
        return
    yield Finding("Java", CLEAN, f"{found.version} at {found.path} (from {found.source})")
    for each in started:
        ready = each.archive(found).made
        yield Finding(
            f"class-data archive{'' if each.keeps_maps else f' of {each.words.product}'}",
            CLEAN if ready else WARN,
            "made" if ready else "not made yet",
            "" if ready else "`microq fetch` makes it, and so does the first `microq up`",
        )


def _jars(of_servers: Backend) -> Iterator[Finding]:
    """Check each jar."""
    for jar in of_servers.jars:
        state = jars.state(jar)
        path = jars.cache_folder() / jar.filename
        yield Finding(
            jar.filename,
            CLEAN if state == "cached" else WARN,
            f"{state}, {path}",
            "" if state == "cached" else f"`microq fetch` downloads it; offline put {jar.coordinate} there",
        )


def _many_jars(of_servers: Backend) -> Finding:
    """Check many jars together, and name the missing ones."""
    what, wanted = f"{of_servers.words.product} {of_servers.version}", of_servers.jars
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
        f"`microq fetch --queue {of_servers.name}` downloads them; offline put {first.coordinate} there{more}",
    )


def _extras(config: Config) -> Iterator[Finding]:
    for extra in extras(config):
        try:
            extra.check()
        except ExtraMissingError as error:
            yield Finding(error.library, MISSING, "not installed", f"pip install 'microq[{error.extra}]'")
        else:
            yield Finding(extra.library, CLEAN, version(extra.library))


def _ports(listed: Sequence[tuple[str, Address]]) -> Iterator[Finding]:
    """Try to listen at each address."""
    wrong = 0
    for name, address in listed:
        try:
            ports.check(name, address)
        except PortTakenError as error:
            wrong += 1
            yield Finding(f"port {address.port}", MISSING, f"{name}: taken by {error.holder}", error.remedy)
        except MachineError as error:
            wrong += 1
            remedy = "write an address of this machine in config.toml, such as 127.0.0.1"
            yield Finding(f"address {address}", MISSING, str(error), remedy)
    if not wrong:
        yield Finding("ports", CLEAN, f"all {len(listed)} are free")


def _room(config: Config) -> Iterator[Finding]:
    memory = psutil.virtual_memory().available
    clusters = [each for role in (Role.MAPS, Role.QUEUE) if (each := backend_of(config, role)) and each.in_java]
    brokers = sum(map_role(config) is Role.MAPS and spec.role is Role.QUEUE for spec in specs(config))
    enough = memory >= NEEDED_MEMORY + brokers * NEEDED_BY_BROKER
    yield Finding(
        "memory",
        CLEAN if enough else WARN,
        f"{memory >> 20} MiB available",
        ""
        if enough
        else f'close something, or set {" and ".join(f"[{each.name}]" for each in clusters)} heap = "128m"',
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


# -- the needs of a configuration -------------------------------------------------------------------------------------

TRACES = Extra(
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "[tracing] endpoint",
    "otel",
)


def started(config: Config) -> list[Backend]:
    """Return the backends whose servers microq starts; the backend of the maps is first."""
    found = filter(None, (backend_of(config, role) for role in sorted(SERVERS)))
    return [each for each in found if each.managed(config)]


def is_needed(config: Config) -> bool:
    """Return whether microq starts a server that runs in Java."""
    return any(each.in_java for each in started(config))


def provide(config: Config, progress: jars.Progress | None = None) -> Engine:
    """Find or download the Java and the jars of a system; raises `JavaMissingError` or `JarMissingError`."""
    runtime = java.find()
    parts = {
        each.name: Parts(jars.provide_all(each.jars, progress), each.archive(runtime))
        for each in started(config)
        if each.in_java
    }
    return Engine(runtime, parts)


def extras(config: Config) -> list[Extra]:
    """Return the optional libraries that this configuration needs."""
    of_queue = backend_of(config, Role.QUEUE)
    return [*([of_queue.extra] if of_queue and of_queue.extra else []), *([TRACES] if config.tracing.endpoint else [])]


def check_extras(config: Config) -> None:
    """Raise `ExtraMissingError` if one of them cannot be imported."""
    for extra in extras(config):
        extra.check()
