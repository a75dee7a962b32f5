"""Gauges of the outbox: what waits, and for how long."""

from collections.abc import Mapping
from typing import Final

from slimtrack.domain.order import STAGES
from slimtrack.outbox.floors import Floors
from slimtrack.outbox.outages import tolerated
from slimtrack.sql import dead_letters, outbox
from slimtrack.sql.pool import Pool
from slimtrack.telemetry import metrics

#: Rows that are counted, at most: by then it is clear that there are many.
_LIMIT: Final = 2_000


class Gauges:
    """Looks at what waits in the database; each publisher sees the same.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._floors: Floors[Mapping[str, outbox.Floor]] = Floors(lifetime=0)

    def measure(self) -> None:
        """Look once. While the database is away the figures stay for a while, and their time."""
        metrics.forget_stale()
        with tolerated(), self._pool.connection() as connection:
            with self._floors.search() as floors:
                measured, next_floors = outbox.measure_outbox(
                    connection, floors=floors, limit=_LIMIT
                )
            self._floors.move(next_floors)
            waiting = dead_letters.count_waiting(connection, limit=_LIMIT)
            for stage, each in measured.items():
                metrics.OLDEST_DUE.labels(stage).set(each.oldest_due)
                metrics.DUE_ROWS.labels(stage).set(each.due)
                metrics.IN_FLIGHT_ROWS.labels(stage).set(each.in_flight)
            for stage in ("", *STAGES):
                metrics.DEAD_LETTERS_WAITING.labels(stage).set(waiting.get(stage, 0))
            metrics.mark_seen("outbox")
