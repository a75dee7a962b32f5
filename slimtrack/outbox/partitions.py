"""The partitions of events: those of the months ahead are made before they are needed."""

from typing import Any, Final

import psycopg
import structlog

from slimtrack.outbox.outages import tolerated
from slimtrack.sql import partitions
from slimtrack.sql.pool import Pool

_log: Final = structlog.get_logger()


class Partitions:
    """Makes partitions; any number of copies may run.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def make_ahead(self) -> None:
        """Make the partitions of the months ahead that are missing."""
        with tolerated(), self._pool.connection() as connection:
            make_ahead(connection)


def make_ahead(connection: psycopg.Connection[Any]) -> None:
    """Make the partitions of the months ahead that are missing, if nobody is in the way."""
    try:
        made = partitions.make_partitions(connection)
    except psycopg.errors.LockNotAvailable as error:
        _log.warning("partitions.postponed", error=str(error))
        return
    if made:
        _log.info("partitions.made", partitions=made)
