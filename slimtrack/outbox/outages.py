"""What the publisher's jobs do while the database is away: say so, and come again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import structlog

from slimtrack.sql.errors import is_infrastructure
from slimtrack.telemetry.scrubbing import first_line

_log: Final = structlog.get_logger()


@contextmanager
def tolerated() -> Iterator[None]:
    """Go on where the database is away.

    Raises:
        psycopg.Error: something else is wrong.
    """
    try:
        yield
    except psycopg.Error as error:
        if not is_infrastructure(error):
            raise
        _log.warning("database.unreachable", error=first_line(str(error)))
