"""The fan-out: events are published for whoever else wants to know of them."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Final

import structlog

from slimtrack import faults
from slimtrack.broker.events import EventMessage
from slimtrack.broker.publishing import ConfirmedPublisher, Outcome
from slimtrack.outbox.floors import Floors
from slimtrack.outbox.loop import FLOOR_LIFETIME, LONGEST_SLEEP, publish_until
from slimtrack.outbox.measuring import count_outcomes
from slimtrack.outbox.outages import tolerated
from slimtrack.outbox.publisher import PUBLISH_TIMEOUT
from slimtrack.sql import outbox
from slimtrack.sql.pool import Pool

_log: Final = structlog.get_logger()

#: Events in one claim, at most.
_BATCH: Final = 500
#: Seconds that the broker has to be ready for what is left.
_READY_TIMEOUT: Final = 5.0


class FanOut:
    """Publishes events at least once, in one long-lived thread; any number of copies may run.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        broker: takes the messages.
        wanted: set when rows may be due.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        broker: ConfirmedPublisher,
        wanted: threading.Event,
    ) -> None:
        self._pool = pool
        self._broker = broker
        self._wanted = wanted
        self._floors: Floors[datetime] = Floors(lifetime=FLOOR_LIFETIME)

    def wake_up(self) -> None:
        """Look for fan-out rows soon."""
        self._wanted.set()

    def run(self, stopping: threading.Event) -> None:
        """Publish until ``stopping`` is set and a wake-up comes."""
        publish_until(
            stopping,
            wanted=self._wanted,
            pool=self._pool,
            broker=self._broker,
            publish_due=self.publish_due,
            seconds_until_due=lambda: LONGEST_SLEEP,
        )

    def publish_due(self) -> int:
        """Publish one claim's worth of events; return how many the broker has confirmed.

        What it has not confirmed stays, and may be published twice: it may have arrived
        nevertheless. What it refused, because a queue is full, or did not answer in time, waits
        longer each time.
        """
        with self._pool.connection() as connection, connection.transaction():
            with self._floors.search() as floor:
                due = outbox.claim_events(connection, limit=_BATCH, floor=floor)
            if not due:
                return 0
            messages = [EventMessage(each) for each in due]
            outcomes = self._broker.publish(messages, timeout=PUBLISH_TIMEOUT)
            count_outcomes("event", outcomes)
            rows: dict[Outcome, list[int]] = {outcome: [] for outcome in Outcome}
            for event, outcome in zip(due, outcomes, strict=True):
                rows[outcome].append(event.row_id)
            confirmed = rows[Outcome.CONFIRMED]
            refused = rows[Outcome.NACKED] + rows[Outcome.TIMED_OUT]
            outbox.settle_events(connection, confirmed=confirmed, refused=refused)
            faults.point("fan_out.before_commit")
        _log.debug("events.published", events=len(confirmed))
        if len(confirmed) == len(due):
            self._floors.move(max(each.due_at for each in due))
        else:
            self._floors.drop()
            unconfirmed = len(due) - len(confirmed)
            _log.warning("events.unconfirmed", events=unconfirmed, refused=len(refused))
        return len(confirmed)


def publish_left(
    pool: Pool,
    *,
    broker: ConfirmedPublisher,
    open_broker: Callable[[Callable[[], None]], ConfirmedPublisher],
) -> int:
    """Publish the events that wait now; return how many.

    For a publisher that has events off: rows may be left from before, or come from processes that
    have them on. RabbitMQ hears of it only then, and only while it takes messages: a connection
    that it blocks cannot be closed.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        broker: knows whether RabbitMQ takes messages.
        open_broker: connects; what it is given is called when events can be published.
    """
    published = 0
    ready = threading.Event()
    with tolerated():
        with pool.connection() as connection:
            if not broker.is_ready or not outbox.has_due_events(connection):
                return 0
        with closing(open_broker(ready.set)) as event_broker:
            fan_out = FanOut(pool, broker=event_broker, wanted=threading.Event())
            while ready.wait(_READY_TIMEOUT) and (batch := fan_out.publish_due()):
                published += batch
    if published:
        _log.warning("events.left", events=published)
    return published
