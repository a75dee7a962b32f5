"""The statements that look at everything; they change nothing but what they are told to repair."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import args_row, scalar_row

from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import FINAL, TRANSITIONS, Status
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.timeline import by


class StuckOrder(NamedTuple):
    """An order that is past its deadline, and what is known of the row that should move it."""

    id: UUID
    status: str
    stage: str
    since: datetime
    attempts: int
    publications: int
    last_error: str | None = None


def _query(name: str) -> str:
    return statements.load("audit.sql")[name]


def keep_partitions(connection: Connection) -> None:
    """Let nobody drop events until the transaction ends; as its first statement.

    What it then sees is as of a moment after this: else events could be gone whose orders it sees.
    """
    connection.execute("LOCK TABLE order_events IN ACCESS SHARE MODE")


def count_places(connection: Connection) -> dict[str, int]:
    """Return the number of orders by status."""
    return dict(connection.execute(_query("count_places"), binary=True).fetchall())


def count_rows(connection: Connection) -> dict[str, int]:
    """Return the number of outbox rows and dead letters by where they are."""
    return dict(connection.execute(_query("count_rows"), binary=True).fetchall())


def find_stranded_orders(connection: Connection, *, limit: int) -> list[UUID]:
    """Return orders that are not final, and that no row and no dead letter accounts for."""
    return _find(connection, "find_stranded_orders", {"final": list(FINAL), "limit": limit})


def find_gaps(connection: Connection, *, limit: int) -> list[UUID]:
    """Return orders whose events are not numbered 1 to their version."""
    return _find(connection, "find_gaps", {"limit": limit})


def find_undeclared_moves(connection: Connection, *, limit: int) -> list[UUID]:
    """Return orders that moved as ``TRANSITIONS`` does not declare."""
    moves = [f"{before}>{after}" for before in TRANSITIONS for after in TRANSITIONS[before]]
    return _find(connection, "find_undeclared_moves", {"moves": moves, "limit": limit})


def find_contradictions(connection: Connection, *, limit: int) -> list[UUID]:
    """Return orders whose status is not that of the event that set it."""
    return _find(connection, "find_contradictions", {"limit": limit})


def find_strays(connection: Connection, *, limit: int) -> list[UUID]:
    """Return the ids that events and rows name, and that no order has."""
    return _find(connection, "find_strays", {"limit": limit})


def find_doubles(connection: Connection, *, limit: int) -> list[UUID]:
    """Return orders with a row that promises what is done, or that is a dead letter too."""
    return _find(connection, "find_doubles", {"limit": limit})


def find_stuck_orders(
    connection: Connection, deadlines: Mapping[str, float], *, limit: int
) -> list[StuckOrder]:
    """Return orders whose next stage, or event, is later than its deadline (seconds)."""
    parameters = {
        "stages": list(deadlines),
        "deadlines": list(deadlines.values()),
        "limit": limit,
    }
    with connection.cursor(row_factory=args_row(StuckOrder), binary=True) as cursor:
        return cursor.execute(_query("find_stuck_orders"), parameters).fetchall()


def count_stuck_rows(connection: Connection, deadlines: Mapping[str, float]) -> dict[str, int]:
    """Return how many rows of each stage are later than its deadline (seconds)."""
    parameters = {"stages": list(deadlines), "deadlines": list(deadlines.values())}
    rows = connection.execute(_query("count_stuck_rows"), parameters, binary=True)
    return dict(rows.fetchall())


def repair_stranded_orders(
    connection: Connection,
    ids: Sequence[UUID],
    *,
    next_stages: Mapping[Status, Status],
    action: OperatorAction,
) -> int:
    """Give orders the row of their next stage again; return how many had none."""
    parameters = {
        "ids": ids,
        "statuses": list(next_stages),
        "stages": list(next_stages.values()),
        **by(action),
    }
    return connection.execute(_query("repair_stranded_orders"), parameters).rowcount


def _find(connection: Connection, name: str, parameters: Mapping[str, Any]) -> list[UUID]:
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return cursor.execute(_query(name), parameters).fetchall()
