"""What the servers need on this machine: a Java, the jars, and the class-data archives if they were made."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from microq.config import Config
from microq.engines import hazelcast, jars, java, kafka, kafka_jars
from microq.engines.archive import Archive
from microq.errors import ExtraMissingError


@dataclass(frozen=True, slots=True)
class Brokers:
    """What brokers of Kafka are started with."""

    jars: tuple[Path, ...]
    archive: Archive


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything to start servers with; brokers only where they are wanted."""

    java: java.Java
    hazelcast: Path
    agent: Path
    archive: Archive
    kafka: Brokers | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What was downloaded."""
        return (self.hazelcast, self.agent, *(self.kafka.jars if self.kafka else ()))


def provide(config: Config, progress: jars.Progress | None = None) -> Engine:
    """Find or download what a system needs; raises `JavaMissingError` or `JarMissingError`."""
    runtime = java.find()
    return Engine(
        runtime,
        jars.provide(jars.HAZELCAST, progress),
        jars.provide(jars.JOLOKIA, progress),
        member_archive(runtime),
        Brokers(jars.provide_all(kafka_jars.KAFKA, progress), broker_archive(runtime)) if config.has_brokers else None,
    )


@dataclass(frozen=True, slots=True)
class Extra:
    """A library that only some configurations need: its name, what is imported of it, who needs it, its extra."""

    library: str
    module: str
    need: str
    name: str

    def check(self) -> None:
        """Raise `ExtraMissingError` if it cannot be imported."""
        try:
            import_module(self.module)
        except ImportError as error:
            raise ExtraMissingError(self.library, self.need, self.name) from error


KAFKA = Extra("aiokafka", "aiokafka", "a queue in Kafka", "kafka")
TRACES = Extra(
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "[tracing] endpoint",
    "otel",
)


def extras(config: Config) -> list[Extra]:
    """Return the libraries that this configuration needs beyond those that every one does."""
    return [*([KAFKA] if config.queue.backend == "kafka" else []), *([TRACES] if config.tracing.endpoint else [])]


def check_extras(config: Config) -> None:
    """Raise `ExtraMissingError` if one of them cannot be imported."""
    for extra in extras(config):
        extra.check()


def is_needed(config: Config) -> bool:
    """Return whether microq starts any server of this system."""
    return config.hazelcast.managed or config.has_brokers


def member_archive(runtime: java.Java) -> Archive:
    """Return the archive of Hazelcast's members."""
    return Archive(runtime, jars.ALL, hazelcast.JVM_FLAGS)


def broker_archive(runtime: java.Java) -> Archive:
    """Return the archive of Kafka's brokers."""
    return Archive(runtime, kafka_jars.KAFKA, kafka.JVM_FLAGS)
