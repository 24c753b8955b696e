"""Provide what a configuration needs on this machine: libraries of extras, a Java, jars, class-data archives."""

from __future__ import annotations

from microq.backends import jars, java
from microq.backends.base import Backend, Extra
from microq.backends.jars import Engine, Parts
from microq.config import Config
from microq.fleet import SERVERS, Role, backend_of

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
