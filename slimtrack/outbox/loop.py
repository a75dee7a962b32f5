"""The loop of a publishing thread: publish while something is due, then sleep until it may be."""

import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
import structlog

from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.sql.errors import is_infrastructure
from slimtrack.sql.pool import Pool
from slimtrack.telemetry.scrubbing import first_line

_log: Final = structlog.get_logger()

#: Seconds of sleep, at most, when no wake-up comes and no row is due earlier.
LONGEST_SLEEP: Final = 5.0
#: Seconds for which a floor of the search for due rows is kept; shorter than the longest sleep,
#: so that the look that follows it is a whole one.
FLOOR_LIFETIME: Final = 4.0
#: Seconds of rest after a claim that found fewer rows than this, however many wake-ups come: what
#: becomes due meanwhile shares the next claim, its messages and their transactions.
_SHORTEST_SLEEP: Final = 0.003
_MANY: Final = 100
#: Seconds before the next try when a server failed.
_RETRY: Final = 0.5


def publish_until(
    stopping: threading.Event,
    *,
    wanted: threading.Event,
    pool: Pool,
    broker: ConfirmedPublisher,
    publish_due: Callable[[], int],
    seconds_until_due: Callable[[], float],
) -> None:
    """Publish until ``stopping`` is set and a wake-up comes.

    Args:
        stopping: set by whoever wants the end.
        wanted: set when rows may be due.
        pool: what ``publish_due`` uses; after a failure its dead connections are replaced.
        broker: nothing is claimed while it takes nothing.
        publish_due: publishes a claim's worth of rows and returns how many.
        seconds_until_due: how long to sleep when there were none, unless a wake-up comes.
    """
    while not stopping.is_set():
        # Cleared before the claim: a wake-up that comes after it is not lost.
        wanted.clear()
        try:
            if not broker.is_ready:
                wanted.wait(LONGEST_SLEEP)
                continue
            published = publish_due()
            if published < _MANY:
                time.sleep(_SHORTEST_SLEEP)
            if not published:
                wanted.wait(seconds_until_due())
        except psycopg.Error as error:
            if not is_infrastructure(error):
                raise
            _log.warning("database.unreachable", error=first_line(str(error)))
            stopping.wait(_RETRY)
            pool.check()
