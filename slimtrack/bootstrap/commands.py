"""Puts the use cases of commands together, and closes their connections at the end."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg.errors

from slimtrack.bootstrap.database import CALLER_POOL_TIMEOUT, CALLER_SESSION
from slimtrack.bootstrap.tracking import create_tracking, deadlines
from slimtrack.settings import Settings
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.heartbeats import Presence
from slimtrack.use_cases.pruning import OrderPruning, PruningError
from slimtrack.use_cases.tracking import Tracking

#: What an operator's command may take: it may move a million rows, or look at all of them.
_OPERATOR_SESSION: Final = {
    **CALLER_SESSION,
    "lock_timeout": "30s",
    "statement_timeout": "10min",
    "work_mem": "64MB",
}


@contextmanager
def open_tracking(
    settings: Settings, *, name: str = "slimtrack", size: int = 1
) -> Iterator[Tracking]:
    """Open the use cases for a command or a test; the connections are closed at the end."""
    with _connected(settings, name=name, size=size, session=CALLER_SESSION) as (pool, wake_up):
        yield create_tracking(settings, pool, wake_up=wake_up)


@contextmanager
def open_access(settings: Settings) -> Iterator[Access]:
    """Open the use cases of tenants and keys for a command.

    Raises:
        UnavailableError: the database does not answer.
    """
    with _operating(settings) as (pool, _wake_up):
        yield Access(pool)


@contextmanager
def open_dead_letters(settings: Settings) -> Iterator[DeadLetters]:
    """Open the use cases of dead letters for a command.

    Raises:
        UnavailableError: the database does not answer.
    """
    with _operating(settings) as (pool, wake_up):
        yield DeadLetters(pool, wake_up=wake_up)


@contextmanager
def open_auditing(settings: Settings) -> Iterator[Auditing]:
    """Open the use cases of audits for a command.

    Raises:
        UnavailableError: the database does not answer.
    """
    with _operating(settings) as (pool, _wake_up):
        yield Auditing(pool, deadlines=deadlines(settings))


@contextmanager
def open_presence(settings: Settings) -> Iterator[Presence]:
    """Open the look at who works, for a command.

    Raises:
        UnavailableError: the database does not answer.
    """
    with _operating(settings) as (pool, _wake_up):
        yield Presence(pool)


@contextmanager
def open_pruning(settings: Settings) -> Iterator[OrderPruning]:
    """Open the use cases of pruning for a command.

    Raises:
        UnavailableError: the database does not answer.
        PruningError: the role may not prune.
    """
    with _operating(settings) as (pool, _wake_up), pool.connection() as connection:
        try:
            yield OrderPruning(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise PruningError(f"Only the owner of the tables may prune: {error}") from error


@contextmanager
def _operating(settings: Settings) -> Iterator[tuple[Pool, Callable[[], None]]]:
    with (
        unavailable_if_away(),
        _connected(
            settings, name="slimtrack operator", size=1, session=_OPERATOR_SESSION
        ) as connected,
    ):
        yield connected


@contextmanager
def _connected(
    settings: Settings, *, name: str, size: int, session: Mapping[str, str]
) -> Iterator[tuple[Pool, Callable[[], None]]]:
    wake_up = WakeUp(settings.database_url)
    try:
        with open_pool(
            settings.database_url,
            application_name=name,
            size=size,
            options=session,
            timeout=CALLER_POOL_TIMEOUT,
        ) as pool:
            yield pool, wake_up.send
    finally:
        wake_up.close()
