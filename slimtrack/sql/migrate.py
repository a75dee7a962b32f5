"""Applies the migrations, each once, in order, whoever else may be doing the same.

Files and the table ``schema_migrations`` have the form that dbmate uses, so an operator may run
them with that instead; the column ``checksum`` is ours.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import psycopg
import structlog

from slimtrack import faults
from slimtrack.domain.errors import SlimTrackError

_log: Final = structlog.get_logger()

#: The key of the advisory lock under which migrations run: "slimtrac" in ASCII.
_LOCK: Final = 0x736C696D74726163


class MigrationError(SlimTrackError):
    """A migration cannot be applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: ``version`` is the number before its first underscore."""

    name: str
    text: str

    @property
    def version(self) -> str:
        """The number by which the migration is known and ordered."""
        return self.name.partition("_")[0]

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def packaged() -> list[Migration]:
    """Return the migrations that the package carries, in order."""
    directory = files("slimtrack.sql") / "migrations"
    return [
        Migration(name=entry.name, text=entry.read_text("utf-8"))
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    ]


def migrate(database_url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing, each file in one transaction; return the names of those applied.

    Any number of processes may call this at once: one applies, the others wait for it.

    Raises:
        MigrationError: a file that was applied has changed since, or fails.
        psycopg.Error: the database does not answer.
    """
    applied: list[str] = []
    with psycopg.connect(
        database_url, autocommit=True, connect_timeout=10, application_name="slimtrack migrate"
    ) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            " version varchar PRIMARY KEY, checksum text)"
        )
        known: dict[str, str | None] = dict(
            connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
        )
        for migration in packaged() if migrations is None else migrations:
            if migration.version not in known:
                _apply(connection, migration)
                applied.append(migration.name)
                _log.info("migration.applied", migration=migration.name)
            elif known[migration.version] not in (None, migration.checksum):
                raise MigrationError(
                    f"{migration.name} was applied to this database and has changed since. "
                    "Restore the file, and put the change into a new migration."
                )
    return applied


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    try:
        with connection.transaction():
            # Waiting for a lock blocks everyone who comes after: give up early, and try again.
            connection.execute("SET LOCAL lock_timeout = '10s'")
            connection.execute(migration.text)
            faults.point("migration.before_commit")
            connection.execute(
                "INSERT INTO schema_migrations (version, checksum) VALUES (%s, %s)",
                [migration.version, migration.checksum],
            )
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name} failed: {error}") from error
