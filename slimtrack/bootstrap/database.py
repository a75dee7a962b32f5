"""What every process needs first: the migrations and the use cases."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
import psycopg.errors

from slimtrack.domain.order import Status
from slimtrack.domain.published import FAN_OUT
from slimtrack.domain.schedule import DeliveryPolicy
from slimtrack.outbox.partitions import make_ahead
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql import migrate as migrations
from slimtrack.sql import partitions
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, open_pool
from slimtrack.sql.roles import Role, allow_login
from slimtrack.sql.wakeup import WakeUp
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.heartbeats import Presence
from slimtrack.use_cases.pruning import OrderPruning, PruningError
from slimtrack.use_cases.tracking import Tracking

#: What a session of a caller may take; a lock that is held longer is a fault elsewhere.
CALLER_SESSION: Final = {
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "jit": "off",
    "timezone": "UTC",
}
#: What an operator's command may take: it may move a million rows, or look at all of them.
_OPERATOR_SESSION: Final = {
    **CALLER_SESSION,
    "lock_timeout": "30s",
    "statement_timeout": "10min",
    "work_mem": "64MB",
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


@contextmanager
def open_tracking(
    settings: Settings, *, name: str = "slimtrack", size: int = 1
) -> Iterator[Tracking]:
    """Open the use cases for a command or a test; the connections are closed at the end."""
    with _connected(settings, name=name, size=size, session=CALLER_SESSION) as (pool, wake_up):
        yield create_tracking(settings, pool, wake_up=wake_up)


def create_tracking(settings: Settings, pool: Pool, *, wake_up: Callable[[], None]) -> Tracking:
    """Make the use cases as they are configured."""
    return Tracking(
        pool,
        wake_up=wake_up,
        schedule=schedule_of(settings),
        fan_out=settings.events,
        answer_lifetime=settings.answer_lifetime,
    )


def schedule_of(settings: Settings) -> Schedule:
    """Return when each stage is due."""
    return Schedule(
        settings.stage_delays,
        deliveries=DeliveryPolicy(
            pause=settings.delivery_pause, attempts=settings.delivery_attempts
        ),
    )


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


def deadlines(settings: Settings) -> dict[str, float]:
    """Return the seconds from the making of a stage's row until it counts as stuck.

    Fan-out rows are due at once, and have as long as those of the first stage.
    """
    delays = {**settings.stage_delays, Status.RETURNED: settings.delivery_pause}
    # After a failed delivery it is due later than usual.
    delays[Status.OUT_FOR_DELIVERY] = max(delays[Status.OUT_FOR_DELIVERY], settings.delivery_pause)
    allowed = {
        **settings.stage_deadlines,
        Status.RETURNED: settings.stage_deadlines[Status.DELIVERED],
    }
    return {
        **{str(stage): delay + allowed[stage] for stage, delay in delays.items()},
        FAN_OUT: allowed[Status.PROCESSING],
    }


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
