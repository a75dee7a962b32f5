"""Applies the migrations, each once, in order, whoever else may be doing the same.

Files and the table ``schema_migrations`` have the form that dbmate uses, so an operator may run
them with that instead; the column ``checksum`` is ours.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql

from slimtrack import faults
from slimtrack.domain.errors import SlimTrackError

_log: Final = structlog.get_logger()

#: The key of the advisory lock under which migrations run: "slimtrac" in ASCII.
_LOCK: Final = 0x736C696D74726163


#: What to do where a role may not migrate.
_ADVICE: Final = (
    "Run `slimtrack migrate` with the DATABASE_URL of the role that owns the tables, then this."
)


#: How often a migration is tried that others are in the way of.
_TRIES: Final = 30
#: Seconds in which others go on before it is tried again.
_PAUSE: Final = 2.0


class MigrationError(SlimTrackError):
    """A migration cannot be applied."""


class _NotAllowedError(Exception):
    """This session's role can neither make the tables nor become their owner."""


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

    Any number of processes may call this at once: one applies, the others wait for it. Where
    nothing is missing it only reads, which roles with the least rights may do as well.

    Raises:
        MigrationError: a file that was applied has changed since, or fails, or this role may not
            apply it.
        psycopg.Error: the database does not answer.
    """
    wanted = packaged() if migrations is None else migrations
    applied: list[str] = []
    with psycopg.connect(
        database_url, autocommit=True, connect_timeout=10, application_name="slimtrack migrate"
    ) as connection:
        connection.add_notice_handler(_log_notice)
        if not _missing(connection, wanted):
            return []
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        # Another process may have done it while this one waited.
        for migration in _missing(connection, wanted):
            _apply(connection, migration)
            applied.append(migration.name)
            _log.info("migration.applied", migration=migration.name)
    return applied


def _missing(
    connection: psycopg.Connection[Any], migrations: Sequence[Migration]
) -> list[Migration]:
    known = _known(connection)
    for migration in migrations:
        if known.get(migration.version) not in (None, migration.checksum):
            raise MigrationError(
                f"{migration.name} was applied to this database and has changed since. "
                "Restore the file, and put the change into a new migration."
            )
    return [migration for migration in migrations if migration.version not in known]


def _known(connection: psycopg.Connection[Any]) -> dict[str, str | None]:
    """Return the checksums of what was applied, by version."""
    try:
        return dict(
            connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
        )
    except psycopg.errors.UndefinedTable:
        return {}
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"The role {connection.info.user} may not see which migrations this database has. "
            f"{_ADVICE}"
        ) from error


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    """Apply a migration, again where a busy system was in its way."""
    for further in reversed(range(_TRIES)):
        try:
            _try(connection, migration)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if not further:
                raise MigrationError(f"{migration.name} failed: {error}") from error
            _log.warning("migration.postponed", migration=migration.name, error=str(error))
            time.sleep(_PAUSE)
        else:
            return


def _try(connection: psycopg.Connection[Any], migration: Migration) -> None:
    try:
        owner = _find_owner(connection) or _make_table(connection)
        with connection.transaction():
            _become(connection, owner)
            # Waiting for a lock blocks everyone who comes after: give up early, and try again.
            connection.execute("SET LOCAL lock_timeout = '4s'")
            connection.execute(migration.text)
            faults.point("migration.before_commit")
            connection.execute(
                "INSERT INTO schema_migrations (version, checksum) VALUES (%s, %s)",
                [migration.version, migration.checksum],
            )
    except _NotAllowedError as error:
        raise MigrationError(
            f"{migration.name} is missing, and the role {connection.info.user} may not apply it. "
            f"{_ADVICE}"
        ) from error
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name} failed: {error}") from error


def _find_owner(connection: psycopg.Connection[Any]) -> str | None:
    """Return who owns what the migrations made; None while there is nothing."""
    row = connection.execute(
        "SELECT pg_get_userbyid(relowner) FROM pg_class"
        " WHERE oid = to_regclass('schema_migrations')"
    ).fetchone()
    return row[0] if row else None


def _make_table(connection: psycopg.Connection[Any]) -> str:
    """Make the table of what was applied; return its owner, which is this session's role."""
    try:
        connection.execute(
            "CREATE TABLE schema_migrations (version varchar PRIMARY KEY, checksum text)"
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise _NotAllowedError from error
    [(owner,)] = connection.execute("SELECT current_user").fetchall()
    return str(owner)


def _become(connection: psycopg.Connection[Any], owner: str) -> None:
    """Let what this transaction makes belong to the owner of the rest, whoever runs it."""
    try:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise _NotAllowedError from error


def _log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Say what a migration could not do, and went on without."""
    _log.warning("migration.limited", reason=notice.message_primary, hint=notice.message_hint)
