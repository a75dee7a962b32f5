"""The fan-out: events are published for whoever else wants to know of them."""

import threading
from typing import Final

import psycopg
import structlog

from slimtrack import faults
from slimtrack.broker.events import EventMessage
from slimtrack.broker.publishing import ConfirmedPublisher, Outcome
from slimtrack.outbox.loop import LONGEST_SLEEP, publish_until
from slimtrack.outbox.publisher import PUBLISH_TIMEOUT
from slimtrack.sql import outbox
from slimtrack.sql.errors import is_infrastructure
from slimtrack.sql.pool import Pool

_log: Final = structlog.get_logger()

#: Events in one claim, at most.
_BATCH: Final = 500


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

    def wake_up(self) -> None:
        """Look for fan-out rows soon."""
        self._wanted.set()

    def run(self, stopping: threading.Event) -> None:
        """Publish until ``stopping`` is set and a wake-up comes."""
        publish_until(
            stopping,
            wanted=self._wanted,
            broker=self._broker,
            publish_due=self.publish_due,
            seconds_until_due=lambda: LONGEST_SLEEP,
        )

    def publish_left(self) -> int:
        """Publish what waits now, without a thread of its own; return how many events.

        For a publisher that has events off: rows may be left from before, or come from processes
        that have them on.
        """
        published = 0
        try:
            while self._broker.is_ready and (batch := self.publish_due()):
                published += batch
        except psycopg.Error as error:
            if not is_infrastructure(error):
                raise
            _log.warning("outbox.unreachable", error=str(error))
        if published:
            _log.warning("events.left", events=published)
        return published

    def publish_due(self) -> int:
        """Publish one claim's worth of events; return how many.

        The rows are gone when the broker has confirmed all of them, and are all there again if it
        has not: events of those that it did confirm are then published twice.
        """
        with self._pool.connection() as connection, connection.transaction() as transaction:
            due = outbox.claim_events(connection, limit=_BATCH)
            if not due:
                return 0
            messages = [EventMessage(each) for each in due]
            outcomes = self._broker.publish(messages, timeout=PUBLISH_TIMEOUT)
            faults.point("fan_out.before_commit")
            unconfirmed = len(due) - outcomes.count(Outcome.CONFIRMED)
            if unconfirmed:
                _log.warning("events.unconfirmed", events=unconfirmed)
                raise psycopg.Rollback(transaction)
        _log.debug("events.published", events=len(due))
        return 0 if unconfirmed else len(due)
