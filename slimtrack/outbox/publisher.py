"""The publisher: claim due rows, publish them, wait for the confirms, mark them."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from slimtrack import faults
from slimtrack.broker.messages import SetMessage
from slimtrack.broker.publishing import ConfirmedPublisher, Outcome
from slimtrack.domain.order import Status
from slimtrack.domain.traceparent import TracedRow
from slimtrack.outbox.floors import Floors
from slimtrack.outbox.loop import FLOOR_LIFETIME, LONGEST_SLEEP, publish_until
from slimtrack.outbox.measuring import count_outcomes
from slimtrack.outbox.packing import pack
from slimtrack.routing import BY_QUEUE, BY_STAGE
from slimtrack.sql import outbox
from slimtrack.sql.pool import Pool
from slimtrack.telemetry import metrics, tracing

_log: Final = structlog.get_logger()

#: Time-outs in this order: publishing < the publisher's idle transaction < the actors' locks <
#: their statements < the lease (30 s, in rearm_lost_rows).
PUBLISH_TIMEOUT: Final = 3.0
PUBLISHER_SESSION: Final = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "8s",
    "statement_timeout": "12s",
}


class Publisher:
    """Publishes what is due, in one long-lived thread; any number of copies may run.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        broker: takes the messages.
        wanted: set when rows may be due.
        stage_bound: published, unfinished rows of a stage, at most.
        set_size: rows in one message, at most.
        single: stages whose rows travel alone.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        broker: ConfirmedPublisher,
        wanted: threading.Event,
        stage_bound: int,
        set_size: int,
        single: Collection[Status] = (),
    ) -> None:
        self._pool = pool
        self._broker = broker
        self._stage_bound = stage_bound
        self._set_size = set_size
        self._single = single
        self._wanted = wanted
        self._next_due_at: datetime | None = None
        self._floors: Floors[Mapping[Status, outbox.Floor]] = Floors(lifetime=FLOOR_LIFETIME)

    def wake_up(self) -> None:
        """Look for due rows soon."""
        self._wanted.set()

    def run(self, stopping: threading.Event) -> None:
        """Publish until ``stopping`` is set and a wake-up comes."""
        publish_until(
            stopping,
            wanted=self._wanted,
            pool=self._pool,
            broker=self._broker,
            publish_due=self.publish_due,
            seconds_until_due=self._seconds_until_due,
        )

    def publish_due(self) -> int:
        """Publish one claim's worth of rows; return how many the broker has confirmed.

        The rows stay locked until they are marked, in one transaction: a crash gives them
        back at once, and an actor that is faster than the mark waits for it.
        """
        tracer = tracing.active()
        traced: list[tuple[Status, TracedRow]] = []
        began = time.time_ns()
        with self._pool.connection() as connection, connection.transaction():
            with self._floors.search() as floors, metrics.CLAIM_DURATION.time():
                rows, next_floors = outbox.claim_due_rows(
                    connection, bound=self._stage_bound, set_size=self._set_size, floors=floors
                )
            self._floors.move(next_floors)
            # In the same transaction, so at the same now(): else a row that becomes due between
            # the two looks would wait until something else wakes the publisher.
            self._next_due_at = None if rows else outbox.find_next_due_at(connection)
            if not rows:
                return 0
            faults.point("publisher.after_claim")
            messages = pack(rows, set_size=self._set_size, single=self._single)
            outcomes = self._broker.publish(messages, timeout=PUBLISH_TIMEOUT)
            ended = time.time_ns()
            confirmed = [
                row_id
                for message, outcome in zip(messages, outcomes, strict=True)
                if outcome is Outcome.CONFIRMED
                for row_id in message.row_ids
            ]
            count_outcomes("set", outcomes)
            faults.point("publisher.before_mark")
            if confirmed:
                traced = outbox.mark_published(connection, confirmed)
        faults.point("publisher.after_commit")
        if tracer and traced:
            tracer.publish(
                [(BY_STAGE[stage].queue_name, row) for stage, row in traced],
                began=began,
                ended=ended,
                published=len(confirmed),
            )
        _count(messages, outcomes, next_floors)
        _log.debug("outbox.published", rows=len(confirmed), messages=len(messages))
        if len(confirmed) < len(rows):
            _log.warning("outbox.unconfirmed", rows=len(rows) - len(confirmed))
        return len(confirmed)

    def _seconds_until_due(self) -> float:
        if self._next_due_at is None:
            return LONGEST_SLEEP
        seconds = (self._next_due_at - datetime.now(UTC)).total_seconds()
        return min(max(seconds, 0.0), LONGEST_SLEEP)


def _count(
    messages: Sequence[SetMessage],
    outcomes: Sequence[Outcome],
    floors: Mapping[Status, outbox.Floor],
) -> None:
    now = datetime.now(UTC)
    rows: Counter[Status] = Counter()
    for message, outcome in zip(messages, outcomes, strict=True):
        if outcome is Outcome.CONFIRMED:
            rows[BY_QUEUE[message.queue_name].stage] += len(message.row_ids)
    for stage, count in rows.items():
        metrics.PUBLISHED[stage].inc(count)
        lag = (now - floors[stage].due_since).total_seconds()
        metrics.PUBLISH_LAG[stage].observe(max(lag, 0.0))
