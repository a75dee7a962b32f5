"""Makes the database ready, and says what a session of a caller may take."""

from collections.abc import Mapping
from typing import Final

import psycopg

from slimtrack.outbox.partitions import make_ahead
from slimtrack.settings import Settings
from slimtrack.sql import migrate as migrations
from slimtrack.sql import partitions
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.roles import Role, allow_login

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
    """Apply the missing migrations and return their names; make the partitions of the months ahead.

    Raises:
        UnavailableError: the database does not answer.
        MigrationError: a migration fails, or was changed after it was applied.
    """
    with unavailable_if_away():
        applied = migrations.migrate(settings.database_url)
        with psycopg.connect(
            settings.database_url, autocommit=True, connect_timeout=10
        ) as connection:
            if partitions.may_make_partitions(connection):
                make_ahead(connection)
        return applied


def let_in(settings: Settings, passwords: Mapping[Role, str]) -> None:
    """Let roles log in with these passwords.

    Raises:
        RoleError: there is no such role, or this user may not do it.
    """
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        for role, password in passwords.items():
            allow_login(connection, role, password=password)
