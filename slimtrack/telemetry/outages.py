"""While a server is away the log says so now and then, not at every try to reach it."""

import logging
import time
from typing import Final

#: Seconds between two lines of one process that say the same.
_PAUSE: Final = 10.0
#: Our events, and what libraries say, as they begin.
_REPEATED: Final = (
    "broker.disconnected",
    "broker.unreachable",
    "database.unreachable",
    "heartbeat.failed",
    "listen.failed",
    "server.unanswered",
    "wake_up.failed",
    "Consumer encountered a connection error",
    "error connecting in",
)
#: What the pool says besides is of no use: it replaces connections by itself.
_POOL: Final = "psycopg.pool"
#: It calls critical what it mends by itself.
_CONSUMER: Final = "dramatiq.worker.ConsumerThread"


class Outages(logging.Filter):
    """Lets one line of a kind through, then none for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        said = str(record.msg["event"] if isinstance(record.msg, dict) else record.msg)
        kind = next((each for each in _REPEATED if said.startswith(each)), None)
        if kind is None:
            return record.name != _POOL
        if record.name.startswith(_CONSUMER):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        now = time.monotonic()
        # Two threads may both write it: what is said twice does no harm, a lock might.
        if now < self._silent_until.get(kind, 0.0):
            return False
        self._silent_until[kind] = now + _PAUSE
        return True
