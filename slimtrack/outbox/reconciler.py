"""The reconciler: what was published and lost on its way becomes due again."""

import time
from datetime import datetime, timedelta
from typing import Final

import structlog

from slimtrack import faults
from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.outbox.floors import Floors
from slimtrack.outbox.outages import tolerated
from slimtrack.routing import BY_STAGE
from slimtrack.sql import outbox
from slimtrack.sql.pool import Pool
from slimtrack.telemetry import metrics

_log: Final = structlog.get_logger()

#: Rows that one statement makes due again, at most: it holds their locks.
_LIMIT: Final = 1_000
#: Seconds that the broker has to count its messages.
_COUNT_TIMEOUT: Final = 2.0


class Reconciler:
    """Makes lost rows due again; any number of copies may run.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        broker: knows how many messages wait, and whether some may have been lost.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        broker: ConfirmedPublisher,
    ) -> None:
        self._pool = pool
        self._broker = broker
        self._disruptions_seen = 0
        self._floors: Floors[datetime] = Floors(lifetime=0)

    def reconcile(self) -> int:
        """Re-arm lost rows; return how many.

        After a disruption of the broker, what was published before it and is no longer queued is
        lost, as far as anyone can know, and is re-armed whatever its age.
        """
        disruptions, disrupted_at = self._broker.disruptions, self._broker.disrupted_at
        counts = self._broker.count_messages(timeout=_COUNT_TIMEOUT)
        if counts is None:
            return 0
        for queue_name, count in counts.items():
            metrics.QUEUE_MESSAGES.labels(queue_name).set(count)
        metrics.mark_seen("queues")
        empty_stages = [stage for stage, route in BY_STAGE.items() if counts[route.queue_name] == 0]
        rearmed = 0
        with tolerated(), self._pool.connection() as connection:
            # Once: what is published while this goes on may be with an actor.
            counted_at = outbox.read_clock(connection)
            disrupted_ago = timedelta(seconds=time.monotonic() - disrupted_at)
            with self._floors.search() as floor:
                oldest = outbox.find_oldest_published(connection, floor=floor)
            while batch := outbox.rearm_lost_rows(
                connection,
                empty_stages=empty_stages,
                counted_at=counted_at,
                disrupted_at=(
                    counted_at - disrupted_ago if disruptions > self._disruptions_seen else None
                ),
                limit=_LIMIT,
                floor=oldest,
            ):
                rearmed += batch
                metrics.REARMED.inc(batch)
                faults.point("reconciler.after_rearm")
            self._floors.move(oldest)
            self._disruptions_seen = disruptions
        if rearmed:
            _log.warning("outbox.rearmed", rows=rearmed)
        return rearmed
