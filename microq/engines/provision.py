"""What the members need on this machine: a Java, the jars, and the class-data archive if it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microq.engines import jars, java
from microq.engines.archive import Archive


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything to start members with."""

    java: java.Java
    hazelcast: Path
    agent: Path
    archive: Archive


def provide(progress: jars.Progress | None = None) -> Engine:
    """Find or download everything; raises `JavaMissingError` or `JarMissingError`."""
    runtime = java.find()
    return Engine(
        runtime,
        jars.provide(jars.HAZELCAST, progress),
        jars.provide(jars.JOLOKIA, progress),
        Archive(runtime),
    )
