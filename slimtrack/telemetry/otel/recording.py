"""Records spans of requests, publications and work, and sends them to a collector."""

import atexit
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode

from slimtrack import __version__
from slimtrack.domain import traceparent as w3c
from slimtrack.domain.traceparent import TracedRow, TraceParent
from slimtrack.telemetry.otel.sdk import EXPORT_TIMEOUT, Exporter, Paced
from slimtrack.telemetry.otel.spans import (
    SPAN_FIELDS,
    Attributes,
    bind,
    context_of,
    destination,
    fail,
    harmless,
    ids,
)

#: Spans that wait to be sent; of more the oldest are dropped.
_MOST_WAITING: Final = 8_192
_NOTHING: Final[Mapping[str, str]] = {}
_NO_REQUEST: Final[object] = None


@dataclass(slots=True)
class _Request:
    """A request under way."""

    span: Span
    token: Any


@dataclass(slots=True)
class _Set:
    """A message under way; its span is made when the first of its rows is traced."""

    queue_name: str
    rows: int
    began: int
    span: Span | None = None
    #: By row, the span of work that has been recorded already.
    worked: dict[int, SpanContext] = field(default_factory=dict)


class OpenTelemetry:
    """Sends spans from a thread of the SDK's own.

    Args:
        endpoint: of a collector that takes OTLP over HTTP; it is asked at ``/v1/traces``.
        per_second: of the requests that are no part of a trace yet, how many are recorded at most.
        service: what this process is called.
        environment: where it runs.
    """

    def __init__(self, endpoint: str, *, per_second: float, service: str, environment: str) -> None:
        self._resource = Resource.create(
            {
                "service.name": service,
                "service.version": __version__,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
                "deployment.environment": environment,
                "deployment.environment.name": environment,
            }
        )
        self._exporter = Exporter(f"{endpoint.rstrip('/')}/v1/traces")
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=1_000,
            max_export_batch_size=512,
            export_timeout_millis=1_000 * EXPORT_TIMEOUT,
        )
        self._requests = self._make_tracer(ParentBased(Paced(per_second)))
        # Whether a row is traced was decided with its request.
        self._rows = self._make_tracer(ALWAYS_ON)
        self._thread = threading.local()
        atexit.register(self.flush)

    @harmless(_NO_REQUEST)
    def begin_request(self, *, method: str, traceparent: str | None, correlation_id: str) -> object:
        """Begin a request, which may be part of a trace already; return what ends it."""
        parent = w3c.read(traceparent)
        span = self._requests.start_span(
            method,
            context_of(parent) if parent else contexts.Context(),
            SpanKind.SERVER,
            {"http.request.method": method, "slimtrack.correlation_id": correlation_id},
        )
        bind(span)
        return _Request(span, contexts.attach(trace.set_span_in_context(span)))

    @harmless(None)
    def end_request(self, begun: Any, *, method: str, route: str | None, status: int) -> None:
        """End it."""
        span: Span = begun.span
        span.set_attribute("http.response.status_code", status)
        if route:
            span.set_attribute("http.route", route)
            span.update_name(f"{method} {route}")
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        contexts.detach(begun.token)
        span.end()
        structlog.contextvars.unbind_contextvars(*SPAN_FIELDS)

    def traceparent(self) -> str | None:
        """Return where the present span stands, for what follows from it; None if not recorded."""
        present = trace.get_current_span().get_span_context()
        if not (present.is_valid and present.trace_flags.sampled):
            return None
        own = ids(present)
        return w3c.write(TraceParent(own["trace_id"], own["span_id"], sampled=True))

    def record(self, error: BaseException) -> None:
        """Say of the present span why it failed."""
        fail(trace.get_current_span(), error)

    @harmless(None)
    def publish(
        self, rows: Sequence[tuple[str, TracedRow]], *, began: int, ended: int, published: int
    ) -> None:
        """Record rows that were published, each to a queue, out of so many that were claimed."""
        claim = self._rows.start_span(
            "publish outbox",
            contexts.Context(),
            SpanKind.PRODUCER,
            {
                "messaging.system": "rabbitmq",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.batch.message_count": published,
            },
            start_time=began,
        )
        for queue_name, row in rows:
            self._start(
                "publish",
                row,
                kind=SpanKind.PRODUCER,
                attributes={**destination(queue_name, "publish", "send")},
                link=claim.get_span_context(),
                began=began,
            ).end(ended)
        claim.end(ended)

    def begin_set(self, *, queue_name: str, rows: int) -> None:
        """Begin a message."""
        self._thread.set = _Set(queue_name, rows, time.time_ns())

    def end_set(self) -> None:
        """End it, when all that came of it is stored."""
        present = self._present_set()
        if present and present.span:
            present.span.end()
        self._thread.set = None

    @contextmanager
    def work(self, row_id: int, row: TracedRow, *, stage: str) -> Iterator[None]:
        """Record the work on one row, which fails with what is raised."""
        span = self._consume(row, stage=stage, began=time.time_ns())
        if present := self._present_set():
            present.worked[row_id] = span.get_span_context()
        bind(span)
        try:
            with trace.use_span(
                span, end_on_exit=True, record_exception=False, set_status_on_exception=False
            ):
                try:
                    yield
                except BaseException as error:
                    fail(span, error)
                    raise
        finally:
            structlog.contextvars.unbind_contextvars(*SPAN_FIELDS)

    @harmless(None)
    def advance(self, rows: Sequence[TracedRow], *, stage: str, began: int) -> None:
        """Record that rows of the message were brought through a stage."""
        for row in rows:
            self._consume(row, stage=stage, began=began).end()

    @harmless(_NOTHING)
    def fail(
        self, row_id: int, row: TracedRow, *, stage: str, error: BaseException
    ) -> Mapping[str, str]:
        """Record that the work on a row failed, unless it is; return what its line says of it."""
        present = self._present_set()
        if present and row_id in present.worked:
            return ids(present.worked[row_id])
        span = self._consume(row, stage=stage, began=present.began if present else time.time_ns())
        fail(span, error)
        span.end()
        return ids(span.get_span_context())

    def flush(self) -> None:
        """Send what was recorded, but do not wait for long; nothing is recorded any more."""
        self._exporter.end_soon()
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _make_tracer(self, sampler: Sampler) -> trace.Tracer:
        provider = TracerProvider(sampler, self._resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider.get_tracer("slimtrack", __version__)

    def _present_set(self) -> _Set | None:
        return getattr(self._thread, "set", None)

    def _consume(self, row: TracedRow, *, stage: str, began: int) -> Span:
        present = self._present_set()
        attributes: Attributes = {}
        link = None
        if present:
            attributes |= destination(present.queue_name, "process", "process")
            if present.span is None:
                present.span = self._rows.start_span(
                    f"process {present.queue_name}",
                    contexts.Context(),
                    SpanKind.CONSUMER,
                    {
                        **destination(present.queue_name, "process", "process"),
                        "messaging.batch.message_count": present.rows,
                    },
                    start_time=present.began,
                )
            link = present.span.get_span_context()
        return self._start(
            stage, row, kind=SpanKind.CONSUMER, attributes=attributes, link=link, began=began
        )

    def _start(
        self,
        name: str,
        row: TracedRow,
        *,
        kind: SpanKind,
        attributes: Attributes,
        link: SpanContext | None,
        began: int,
    ) -> Span:
        parent = w3c.read(row.traceparent)
        about: Attributes = {
            **attributes,
            "slimtrack.order_id": str(row.order_id),
            "slimtrack.attempt": row.attempt,
        }
        if row.correlation_id:
            about["slimtrack.correlation_id"] = row.correlation_id
        return self._rows.start_span(
            name,
            context_of(parent) if parent else contexts.Context(),
            kind,
            about,
            links=[Link(link)] if link else None,
            start_time=began,
        )
