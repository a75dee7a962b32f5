"""The statements on the outbox; they never commit."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import repeat
from math import ceil
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import STAGES, Status, sources_of
from slimtrack.domain.published import FAN_OUT, PublishedEvent
from slimtrack.domain.retry import ProcessKilledError, RetryPolicy, Suspect
from slimtrack.domain.traceparent import TracedRow
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.orders import event_of, order_of
from slimtrack.sql.timeline import BY_NOBODY

#: Seconds after which a published row no longer counts as in flight.
LEASE_HORIZON = 600.0


_EVENT_COLUMNS = len(OrderEvent.__struct_fields__)


class DueRow(NamedTuple):
    """An outbox row that this transaction has claimed."""

    id: int
    stage: Status
    publications: int


class Floor(NamedTuple):
    """When the oldest due row of a stage became due, and the oldest in flight was published."""

    due_since: datetime
    published_since: datetime


class Measured(NamedTuple):
    """How the rows of a stage stand: how late the first is, how many are due, and in flight."""

    oldest_due: float
    due: int
    in_flight: int


class Claim(NamedTuple):
    """What a claim has locked, and where the next one may begin."""

    rows: list[DueRow]
    floors: dict[Status, Floor]


class FailedRow(NamedTuple):
    """An outbox row whose work failed, and why."""

    id: int
    counted: bool
    max_retries: int
    error_type: str
    error: str
    traceback: str
    fingerprint: str


class LockedRow(NamedTuple):
    """An outbox row that this transaction works on; ``wanted`` if its order waits for it."""

    order_id: UUID
    from_sequence: int
    undo: bool
    payload: dict[str, Any]
    attempts: int
    correlation_id: str | None
    traceparent: str | None
    wanted: bool


class Settled(NamedTuple):
    """What came of a row that failed: the id of its dead letter, or it is due again."""

    error_type: str
    id: int
    order_id: UUID
    attempts: int
    correlation_id: str | None
    traceparent: str | None
    dead_letter: int | None


def claim_due_rows(
    connection: Connection,
    *,
    bound: int,
    set_size: int,
    floors: Mapping[Status, Floor] | None = None,
) -> Claim:
    """Lock due rows until the transaction ends, for each stage as many as it has room for.

    A stage with two sets in flight has enough to do: its rows wait until they fill a set. Five
    sets at once, at most: while the locks are held, actors that are faster wait for them.

    With ``floors``, those of an earlier claim, rows that are older are overlooked.
    """
    known = [(floors or {}).get(stage) for stage in STAGES]
    parameters = {
        "stages": list(STAGES),
        "due_floors": [floor and floor.due_since for floor in known],
        "published_floors": [floor and floor.published_since for floor in known],
        "bound": bound,
        "horizon": LEASE_HORIZON,
        "enough": 2 * set_size,
        "set_size": set_size,
        "batch": 5 * set_size,
    }
    claim = Claim([], {})
    with connection.cursor(binary=True) as cursor:
        query = statements.load("outbox.sql")["claim_due_rows"]
        for name, ids, publications, *floor in cursor.execute(query, parameters, prepare=True):
            stage = Status(name)
            claim.floors[stage] = Floor(*floor)
            claim.rows.extend(map(DueRow, ids, repeat(stage), publications))
    return claim


def claim_events(
    connection: Connection, *, limit: int, floor: datetime | None = None
) -> list[PublishedEvent]:
    """Lock due fan-out rows and return their events, oldest first.

    With a ``floor``, rows that became due earlier are overlooked.
    """

    def read(*columns: Any) -> PublishedEvent:
        row_id, tenant_id, correlation_id, due_at, *others = columns
        return PublishedEvent(
            row_id=row_id,
            tenant_id=tenant_id,
            correlation_id=correlation_id,
            due_at=due_at,
            event=event_of(*others[:_EVENT_COLUMNS]),
            order=order_of(*others[_EVENT_COLUMNS:]),
        )

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        query = statements.load("outbox.sql")["claim_events"]
        return cursor.execute(query, {"limit": limit, "floor": floor}, prepare=True).fetchall()


def settle_events(
    connection: Connection, *, confirmed: Sequence[int], refused: Sequence[int]
) -> None:
    """Take away confirmed fan-out rows, make refused ones due later; where they were claimed."""
    parameters = {"confirmed": confirmed, "refused": refused}
    connection.execute(statements.load("outbox.sql")["settle_events"], parameters, prepare=True)


def has_due_events(connection: Connection) -> bool:
    """Tell whether a fan-out row is due."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(statements.load("outbox.sql")["has_due_events"]).fetchone())


def mark_published(connection: Connection, ids: Sequence[int]) -> list[tuple[Status, TracedRow]]:
    """Record the broker's confirm; only in the transaction that claimed the rows.

    Returns those whose trace is recorded, each with its stage.
    """

    def read(stage: str, *columns: Any) -> tuple[Status, TracedRow]:
        return Status(stage), TracedRow(*columns)

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        query = statements.load("outbox.sql")["mark_published"]
        return cursor.execute(query, {"ids": ids}, prepare=True).fetchall()


def find_next_due_at(connection: Connection) -> datetime | None:
    """Return when the next row that is not due yet will be, or None."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        query = statements.load("outbox.sql")["find_next_due_at"]
        due_at = cursor.execute(query, {"stages": list(STAGES)}, prepare=True).fetchone()
        return due_at if isinstance(due_at, datetime) else None


def read_clock(connection: Connection) -> datetime:
    """Return what time it is by the server's own clock."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        query = statements.load("outbox.sql")["read_clock"]
        clock = cursor.execute(query, prepare=True).fetchone()
        assert isinstance(clock, datetime)  # noqa: S101 - it always has one
        return clock


def rearm_lost_rows(
    connection: Connection,
    *,
    empty_stages: Sequence[Status],
    counted_at: datetime,
    disrupted_at: datetime | None,
    limit: int,
    floor: datetime | None = None,
) -> int:
    """Make due again what was published and lost; return the number of rows.

    Args:
        connection: in autocommit.
        empty_stages: those whose queue was empty.
        counted_at: when that was, by the server's clock.
        disrupted_at: since when no message can have been lost; None if none was at all.
        limit: rows, at most.
        floor: rows that were published earlier are overlooked.
    """
    parameters = {
        "stages": list(STAGES),
        "empty_stages": list(empty_stages),
        "counted_at": counted_at,
        "disrupted_at": disrupted_at,
        "limit": limit,
        "floor": floor,
        **BY_NOBODY,
    }
    query = statements.load("outbox.sql")["rearm_lost_rows"]
    return connection.execute(query, parameters, prepare=True).rowcount


def find_oldest_published(connection: Connection, *, floor: datetime | None) -> datetime | None:
    """Return when the oldest row in flight was published, or now; nothing below a floor counts."""
    parameters = {"stages": list(STAGES), "floor": floor}
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        query = statements.load("outbox.sql")["find_oldest_published"]
        return cursor.execute(query, parameters, prepare=True).fetchone()


def measure_outbox(
    connection: Connection, *, floors: Mapping[str, Floor] | None = None, limit: int
) -> tuple[dict[str, Measured], dict[str, Floor]]:
    """Return how each stage stands, also the fan-out, and where the next look may begin.

    With ``floors``, those of an earlier look, rows that are older are overlooked.
    """
    stages = [*STAGES, FAN_OUT]
    known = [(floors or {}).get(stage) for stage in stages]
    parameters = {
        "stages": stages,
        "due_floors": [floor and floor.due_since for floor in known],
        "published_floors": [floor and floor.published_since for floor in known],
        "limit": limit,
    }
    measured: dict[str, Measured] = {}
    next_floors: dict[str, Floor] = {}
    with connection.cursor(binary=True) as cursor:
        query = statements.load("outbox.sql")["measure_outbox"]
        for name, due, published, *figures in cursor.execute(query, parameters, prepare=True):
            next_floors[name] = Floor(due, published)
            measured[name] = Measured(*figures)
    return measured, next_floors


def rearm_rows(
    connection: Connection,
    ids: Sequence[int],
    *,
    stage: Status,
    counted: bool,
    error_type: str,
    error: str,
    delay: float,
) -> int:
    """Make rows due again in about ``delay`` seconds, without consuming an attempt."""
    parameters = {
        "ids": ids,
        "stage": stage,
        "counted": counted,
        "error_type": error_type,
        "error": error,
        "delay": delay,
        **BY_NOBODY,
    }
    query = statements.load("outbox.sql")["rearm_rows"]
    return connection.execute(query, parameters, prepare=True).rowcount


def fail_rows(
    connection: Connection,
    rows: Sequence[FailedRow],
    *,
    stage: Status,
    actor_name: str,
    queue_name: str,
    policy: RetryPolicy,
) -> list[Settled]:
    """Count a failed attempt of each row: due again after a backoff, or a dead letter."""
    parameters = {
        "ids": [row.id for row in rows],
        "counted": [int(row.counted) for row in rows],
        "max_retries": [row.max_retries for row in rows],
        "error_types": [row.error_type for row in rows],
        "errors": [row.error for row in rows],
        "tracebacks": [row.traceback for row in rows],
        "fingerprints": [row.fingerprint for row in rows],
        "stage": stage,
        "actor": actor_name,
        "queue": queue_name,
        "min_backoff": policy.min_backoff,
        "max_backoff": policy.max_backoff,
        **BY_NOBODY,
    }
    with connection.cursor(row_factory=args_row(Settled), binary=True) as cursor:
        query = statements.load("outbox.sql")["fail_rows"]
        return cursor.execute(query, parameters, prepare=True).fetchall()


def order_by_suspicion(
    connection: Connection, ids: Sequence[int], *, stage: Status
) -> list[Suspect]:
    """Return those of the rows that still have something to do, the least suspicious first."""
    parameters = {"ids": ids, "stage": stage, "killed": f"{ProcessKilledError.__name__}:"}
    with connection.cursor(row_factory=args_row(Suspect), binary=True) as cursor:
        query = statements.load("outbox.sql")["order_by_suspicion"]
        return cursor.execute(query, parameters, prepare=True).fetchall()


class Begun(NamedTuple):
    """Whether an attempt begins, and whether an earlier one has no outcome."""

    begun: bool
    left_open: bool


def begin_attempt(connection: Connection, row_id: int, *, stage: Status) -> Begun:
    """Count an attempt before it begins; neither where there is nothing to do."""
    parameters = {"id": row_id, "stage": stage}
    with connection.cursor(row_factory=args_row(Begun), binary=True) as cursor:
        query = statements.load("outbox.sql")["begin_attempt"]
        begun = cursor.execute(query, parameters, prepare=True).fetchone()
    assert begun  # noqa: S101 - a statement without FROM has one row
    return begun


def lock_attempts(connection: Connection, ids: Sequence[int], *, stage: Status) -> dict[int, int]:
    """Return how many attempts rows took so far, and lock them; without those that are gone."""
    query = statements.load("outbox.sql")["lock_attempts"]
    rows = connection.execute(query, {"ids": ids, "stage": stage}, prepare=True, binary=True)
    return dict(rows.fetchall())


def allow_work(connection: Connection, *, seconds: float) -> None:
    """Give this transaction so much longer than others before it times out."""
    connection.execute(statements.load("outbox.sql")["allow_work"], {"seconds": ceil(seconds)})


def lock_row(connection: Connection, row_id: int, *, stage: Status) -> LockedRow | None:
    """Lock a row that is due until the transaction ends; None if it is not there any more."""
    parameters = {"id": row_id, "stage": stage, "from_statuses": list(sources_of(stage))}
    with connection.cursor(row_factory=args_row(LockedRow), binary=True) as cursor:
        query = statements.load("outbox.sql")["lock_row"]
        return cursor.execute(query, parameters, prepare=True).fetchone()


def add_undo(connection: Connection, row: LockedRow, *, stage: Status) -> None:
    """Promise to undo the work that was, or may have been, done for a row."""
    parameters = {
        "stage": stage,
        "order_id": row.order_id,
        "from_sequence": row.from_sequence,
        "payload": msgspec.json.encode(row.payload).decode(),
        "correlation_id": row.correlation_id,
        "traceparent": row.traceparent,
        **BY_NOBODY,
    }
    connection.execute(statements.load("outbox.sql")["add_undo"], parameters)


def finish_undo(connection: Connection, row_id: int) -> None:
    """Take away a row whose work is undone."""
    parameters = {"id": row_id, **BY_NOBODY}
    connection.execute(statements.load("outbox.sql")["finish_undo"], parameters)
