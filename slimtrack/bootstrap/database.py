"""What every process needs first: the migrations and the use cases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from slimtrack.domain.errors import UnavailableError
from slimtrack.settings import Settings
from slimtrack.sql import migrate as migrations
from slimtrack.sql.errors import is_infrastructure
from slimtrack.sql.pool import open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.tracking import Tracking

#: What a session of a caller may take; a lock that is held longer is a fault elsewhere.
CALLER_SESSION: Final = {
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "jit": "off",
    "timezone": "UTC",
}
#: Seconds that a caller waits for a free connection before it is told to come back.
CALLER_POOL_TIMEOUT: Final = 2.0


def migrate(settings: Settings) -> list[str]:
    """Apply the missing migrations and return their names.

    Raises:
        UnavailableError: the database does not answer.
        MigrationError: a migration fails, or was changed after it was applied.
    """
    try:
        return migrations.migrate(settings.database_url)
    except psycopg.Error as error:
        if is_infrastructure(error):
            raise UnavailableError(f"The database does not answer: {error}") from error
        raise


@contextmanager
def open_tracking(
    settings: Settings, *, name: str = "slimtrack", size: int = 1
) -> Iterator[Tracking]:
    """Open the use cases for a command or a test; the connections are closed at the end."""
    wake_up = WakeUp(settings.database_url)
    try:
        with open_pool(
            settings.database_url,
            application_name=name,
            size=size,
            options=CALLER_SESSION,
            timeout=CALLER_POOL_TIMEOUT,
        ) as pool:
            yield Tracking(pool, wake_up=wake_up.send, stage_delays=settings.stage_delays)
    finally:
        wake_up.close()
