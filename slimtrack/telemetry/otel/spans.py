"""Parts of spans: what they are named by, linked to, and fail with."""

from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode

from slimtrack.domain.traceparent import TraceParent
from slimtrack.telemetry.scrubbing import without_quotations

_log: Final = structlog.get_logger()

#: What a line of the log says of the span that it was written in.
SPAN_FIELDS: Final = ("trace_id", "span_id")

Attributes = dict[str, str | int]
P = ParamSpec("P")
T = TypeVar("T")


def harmless(otherwise: T) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let nothing that is wrong with a span get in the way of what it is about."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(*args, **kwargs)
            except Exception:  # noqa: BLE001 - as above
                _log.warning("span.lost", exc_info=True)
                return otherwise

        return call

    return decorate


def context_of(parent: TraceParent) -> contexts.Context:
    """Return the context in which a remote span is the present one."""
    remote = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(parent.sampled)),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), contexts.Context())


def destination(queue_name: str, operation: str, kind: str) -> Attributes:
    """Return what the conventions for messaging say of an operation on a queue."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": queue_name,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }


def ids(span: SpanContext) -> dict[str, str]:
    """Return what a line of the log says of a span."""
    return dict(zip(SPAN_FIELDS, (f"{span.trace_id:032x}", f"{span.span_id:016x}"), strict=True))


def bind(span: Span) -> None:
    """Let each line of the log say which span it was written in, if that is recorded."""
    if span.is_recording():
        structlog.contextvars.bind_contextvars(**ids(span.get_span_context()))


def fail(span: Span, error: BaseException) -> None:
    """Say of a span what it failed with."""
    # Not by record_exception: it takes all that the error says, and its traceback.
    kind = type(error).__qualname__
    span.set_attribute("error.type", kind)
    span.add_event(
        "exception",
        {"exception.type": kind, "exception.message": without_quotations(str(error))},
    )
    span.set_status(StatusCode.ERROR)
