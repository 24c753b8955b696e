"""Traces of a message through facade, logging-service, queue and messages-service.

W3C's `traceparent` is passed from process to process in the header of a request and in the envelope of a message.
OpenTelemetry is imported, and spans are recorded, only if `[tracing] endpoint` names a collector.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext, SpanKind, Tracer

log = logging.getLogger(__name__)

HEADER = "traceparent"

EXPORT_SECONDS = 2.0
"""Seconds that the collector may take for a batch of spans before they are dropped."""

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def checked(value: Any) -> str:
    """Return `value` if it is a traceparent, else an empty text: an invalid one is ignored, not refused."""
    return value if isinstance(value, str) and _FORM.fullmatch(value) else ""


class Span:
    """A span in progress; this one records nothing."""

    def set(self, key: str, value: str | int) -> None:
        """Set an attribute, under a name of OpenTelemetry's conventions."""


_SILENT = Span()
_NOTHING = nullcontext(_SILENT)

_current: ContextVar[_Recording | None] = ContextVar("span", default=None)


def current() -> Span:
    """Return the current span, to set its attributes."""
    return _current.get() or _SILENT


def span(name: str, kind: str = "internal", since: int | None = None) -> AbstractContextManager[Span]:
    """Record a child of the current span, if there is one.

    Its `kind` is one of OpenTelemetry's, in lower case; it began at `since` (ns since the epoch), by default now.
    """
    around = _current.get()
    return around.part(name, kind, since) if around else _NOTHING


def traceparent() -> str:
    """Return the traceparent that continues the current trace in another process; empty if there is none."""
    around = _current.get()
    return around.traceparent() if around else ""


def headers() -> dict[str, str]:
    """Return the header that continues the current trace in a request; empty if there is none."""
    parent = traceparent()
    return {HEADER: parent} if parent else {}


def trace_id() -> str:
    """Return the id of the current trace; empty if there is none."""
    return traceparent()[3:35]


class Tracing:
    """The tracing of a service; this one records nothing."""

    def entry(
        self,
        name: str,
        parent: object = "",
        kind: str = "server",
        since: int | None = None,
    ) -> AbstractContextManager[Span]:
        """Record work from outside as a part of the trace of `parent`, a traceparent, or as a new trace.

        `kind` and `since` are as in `span`.
        """
        del name, parent, kind, since
        return _NOTHING

    async def close(self) -> None:
        """Deliver the recorded spans that are left, within about `EXPORT_SECONDS`."""


OFF = Tracing()


def start(endpoint: str, name: str) -> Tracing:
    """Return the tracing of the service `name`; it records nothing if the endpoint is empty."""
    return _Live(endpoint, name) if endpoint else OFF


class _Recording(Span):
    """A span that is recorded."""

    def __init__(self, tracer: Tracer, span: OtelSpan) -> None:
        self._tracer, self._span = tracer, span

    def set(self, key: str, value: str | int) -> None:
        self._span.set_attribute(key, value)

    def traceparent(self) -> str:
        context = self._span.get_span_context()
        if not context.is_valid:  # a standard variable of OpenTelemetry switched it off
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def part(self, name: str, kind: str, since: int | None) -> AbstractContextManager[Span]:
        return _record(self._tracer, self._span, name, kind, since)


@contextmanager
def _record(tracer: Tracer, parent: OtelSpan | None, name: str, kind: str, since: int | None) -> Iterator[Span]:
    from opentelemetry import context, trace

    around = trace.set_span_in_context(parent, context.Context()) if parent else context.Context()
    begun = tracer.start_span(name, around, _kind(kind), start_time=since)
    recording = _Recording(tracer, begun)
    token = _current.set(recording)
    try:
        with trace.use_span(begun, end_on_exit=True):
            yield recording
    finally:
        _current.reset(token)


def _kind(word: str) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[word.upper()]


class _Live(Tracing):
    """Records spans, and delivers them in a thread of its own."""

    def __init__(self, endpoint: str, name: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        role = name.partition("-")[0]
        facts = {"service.namespace": "microq", "service.name": role, "service.instance.id": name}
        self._provider = TracerProvider(resource=Resource.create(facts), shutdown_on_exit=False)
        self._exporter = _Exporter(endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))  # type: ignore[arg-type]  # it is imported late, so it can be no base
        self._tracer = self._provider.get_tracer("microq")

    def entry(
        self,
        name: str,
        parent: object = "",
        kind: str = "server",
        since: int | None = None,
    ) -> AbstractContextManager[Span]:
        return _record(self._tracer, _remote(parent), name, kind, since)

    async def close(self) -> None:
        self._exporter.closing = True
        await asyncio.to_thread(self._provider.shutdown)


def _remote(parent: object) -> OtelSpan | None:
    """Return the span of another process, from a traceparent."""
    from opentelemetry import trace

    found = _FORM.fullmatch(checked(parent))
    if not found:
        return None
    trace_id, span_id, flags = (int(number, 16) for number in found.groups())
    context: SpanContext = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    return trace.NonRecordingSpan(context)


class _Exporter:
    """Delivers spans by OTLP over HTTP. It logs a failure only once, and a failure does no harm."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._endpoint = endpoint
        self._otlp = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)
        self._failing = False
        self.closing = False

    def export(self, spans: Any) -> SpanExportResult:
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self.closing and self._failing:
            return SpanExportResult.FAILURE  # the end of a service does not wait for it
        result = self._otlp.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("the collector at %s accepts no traces; they are dropped until it does", self._endpoint)
        elif self._failing and not failed:
            log.info("the collector at %s accepts traces again", self._endpoint)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._otlp.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._otlp.force_flush(timeout_millis)
