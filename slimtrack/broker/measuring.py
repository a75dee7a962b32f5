"""Counts deliveries, under the names that Dramatiq's own middleware gives its metrics.

That one serves its page in a process of its own, which nobody starts again, on every interface.
"""

import threading
import time
from typing import Any, NamedTuple

from dramatiq import Actor, Broker, MessageProxy, Middleware
from prometheus_client import Counter, Gauge, Histogram

from slimtrack.telemetry import metrics


class _Series(NamedTuple):
    """The series of one actor."""

    messages: Counter
    errors: Counter
    rejects: Counter
    in_progress: Gauge
    duration: Histogram


class Measuring(Middleware):
    """Counts what the actors of a broker are handed, and how long they take.

    Only actors that were declared: what a message says about itself may be anything.
    """

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        # A worker thread processes one message at a time.
        self._thread = threading.local()

    def after_declare_actor(self, broker: Broker, actor: Actor[..., Any]) -> None:
        """Make the series of an actor."""
        del broker
        labels = actor.queue_name, actor.actor_name
        self._series[actor.actor_name] = _Series(
            metrics.MESSAGES.labels(*labels),
            metrics.MESSAGE_ERRORS.labels(*labels),
            metrics.MESSAGE_REJECTS.labels(*labels),
            metrics.MESSAGES_IN_PROGRESS.labels(*labels),
            metrics.MESSAGE_DURATION.labels(*labels),
        )

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin."""
        del broker
        self._thread.started = time.perf_counter()
        if series := self._series.get(message.actor_name):
            series.in_progress.inc()

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Count a delivery."""
        del broker, result
        if series := self._series.get(message.actor_name):
            series.in_progress.dec()
            series.messages.inc()
            series.duration.observe(1000 * (time.perf_counter() - self._thread.started))
            if exception is not None:
                series.errors.inc()

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Count a message that was put aside."""
        del broker
        if series := self._series.get(message.actor_name):
            series.rejects.inc()
