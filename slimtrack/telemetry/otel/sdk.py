"""What OpenTelemetry's SDK is told: which requests begin a trace, and where spans are sent."""

import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util import types

_log: Final = structlog.get_logger()

#: Seconds that a batch has to be sent, and the end of a process waits before it drops the rest.
EXPORT_TIMEOUT: Final = 2.0
_FLUSH_TIMEOUT: Final = 2.0
#: Seconds between two lines that say the collector does not answer.
_PAUSE: Final = 60.0


class Paced(Sampler):
    """Records so many traces a second, at most: where there are few, each; where many, a few."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(per_second, 1.0)
        self._left = self._most if per_second else 0.0
        self._counted_at = time.monotonic()
        self._lock = threading.Lock()

    def should_sample(  # noqa: PLR0917 - OpenTelemetry's signature
        self,
        parent_context: contexts.Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Record it while there is some allowance left."""
        del parent_context, trace_id, name, kind, links, trace_state
        with self._lock:
            now = time.monotonic()
            earned = (now - self._counted_at) * self._per_second
            self._left = min(self._left + earned, self._most)
            self._counted_at = now
            if self._left < 1:
                return SamplingResult(Decision.DROP)
            self._left -= 1
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        """Say what it is."""
        return f"{self._per_second:g} a second"


class Exporter(SpanExporter):
    """Sends batches; says in a line a minute, at most, that the collector does not take them."""

    def __init__(self, url: str) -> None:
        self._sender = OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT)
        self._ends_at = float("inf")
        self._silent_until = 0.0
        self._unsent = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, or drop them."""
        result = SpanExportResult.FAILURE
        if time.monotonic() < self._ends_at:
            result = self._sender.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._unsent += len(spans)
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + _PAUSE
                _log.warning("spans.dropped", spans=self._unsent)
                self._unsent = 0
        return result

    def end_soon(self) -> None:
        """Send only for a moment longer; whatever is left is dropped."""
        self._ends_at = time.monotonic() + _FLUSH_TIMEOUT

    def shutdown(self) -> None:
        """End what is under way."""
        self._sender.shutdown()  # type: ignore[no-untyped-call]
