"""Traces: what follows from a request, with its times; where somebody wants them.

`docs/traces.md` says which spans there are, and how they belong together.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from slimtrack.domain.traceparent import TracedRow


class Tracer(Protocol):
    """What records spans; nothing of it ever waits or raises.

    A thread works on one request or message at a time: what is begun in it goes on there.
    """

    def begin_request(self, *, method: str, traceparent: str | None, correlation_id: str) -> object:
        """Begin a request, which may be part of a trace already; return what ends it."""

    def end_request(self, begun: Any, *, method: str, route: str | None, status: int) -> None:
        """End it."""

    def traceparent(self) -> str | None:
        """Return where the present span stands, for what follows from it; None if not recorded."""

    def record(self, error: BaseException) -> None:
        """Say of the present span why it failed."""

    def publish(
        self, rows: Sequence[tuple[str, TracedRow]], *, began: int, ended: int, published: int
    ) -> None:
        """Record rows that were published, each to a queue, out of so many that were claimed."""

    def begin_set(self, *, queue_name: str, rows: int) -> None:
        """Begin a message."""

    def end_set(self) -> None:
        """End it, when all that came of it is stored."""

    def work(self, row_id: int, row: TracedRow, *, stage: str) -> AbstractContextManager[object]:
        """Record the work on one row, which fails with what is raised."""

    def advance(self, rows: Sequence[TracedRow], *, stage: str, began: int) -> None:
        """Record that rows of the message were brought through a stage."""

    def fail(
        self, row_id: int, row: TracedRow, *, stage: str, error: BaseException
    ) -> Mapping[str, str]:
        """Record that the work on a row failed, unless it is; return what its line says of it."""

    def flush(self) -> None:
        """Send what was recorded, but do not wait for long; nothing is recorded any more."""


#: None, or the one of this process.
_tracers: Final[list[Tracer]] = []


def configure(*, endpoint: str, per_second: float, service: str, environment: str) -> None:
    """Record from now on; without an endpoint nothing is.

    Called once in a process, after any fork.

    Args:
        endpoint: of a collector that takes OTLP over HTTP.
        per_second: of the requests that are no part of a trace yet, how many are recorded at most.
        service: what this process is called.
        environment: where it runs.
    """
    if endpoint and not _tracers:
        # Whoever wants no traces does not pay for what makes them.
        from slimtrack.telemetry.otel.recording import OpenTelemetry  # noqa: PLC0415

        _tracers.append(
            OpenTelemetry(endpoint, per_second=per_second, service=service, environment=environment)
        )


def active() -> Tracer | None:
    """Return what records spans, if anybody wants them."""
    return _tracers[0] if _tracers else None


def traceparent() -> str | None:
    """Return where the present span stands, for what follows from it; None if not recorded."""
    return _tracers[0].traceparent() if _tracers else None
