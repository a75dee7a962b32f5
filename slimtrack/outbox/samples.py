"""Samples: how the system fares, kept for the plots of the overview."""

from collections.abc import Mapping
from typing import Final

from slimtrack.domain.published import FAN_OUT
from slimtrack.outbox.floors import Floors
from slimtrack.outbox.outages import tolerated
from slimtrack.sql import outbox, watching
from slimtrack.sql.pool import Pool

#: Dead letters that are counted, at most.
_LIMIT: Final = 2_000
#: Orders whose events are looked at, at most.
_ORDERS: Final = 1_000


class Samples:
    """Keeps a sample of every ten seconds; of several publishers the first one does.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._floors: Floors[Mapping[str, outbox.Floor]] = Floors(lifetime=0)
        #: Rows past their deadline, as whoever looks for them has found last.
        self.stuck: int | None = None

    def take(self) -> None:
        """Look once, and keep what is seen."""
        with tolerated(), self._pool.connection() as connection:
            with self._floors.search() as floors:
                measured, next_floors = outbox.measure_outbox(connection, floors=floors, limit=1)
            self._floors.move(next_floors)
            watching.take_sample(
                connection,
                oldest_due=max(
                    each.oldest_due for stage, each in measured.items() if stage != FAN_OUT
                ),
                stuck=self.stuck,
                most=_ORDERS,
                limit=_LIMIT,
            )
