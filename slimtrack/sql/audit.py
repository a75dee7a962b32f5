"""The statements that look at everything; they change nothing but what they are told to repair."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.order import FINAL, TRANSITIONS, Status
from slimtrack.sql import statements

Connection = psycopg.Connection[Any]

#: What is checked, by the name of the statement that finds what breaks it.
CHECKS: Final[Mapping[str, str]] = {
    "find_stranded_orders": "every order is final, or a row or dead letter accounts for it",
    "find_gaps": "the events of an order are numbered 1 to its version",
    "find_undeclared_moves": "orders move only as declared",
    "find_contradictions": "an order's status is that of the event that set it",
    "find_strays": "every event and every row is of an order",
    "find_doubles": "no row promises what is done, or is a dead letter too",
}


class StuckOrder(NamedTuple):
    """An order that is past its deadline, and what is known of the row that should move it."""

    id: UUID
    status: str
    stage: str
    since: datetime
    attempts: int
    publications: int
    last_error: str | None


def _query(name: str) -> str:
    return statements.load("audit.sql")[name]


def count_places(connection: Connection) -> dict[str, int]:
    """Return the number of orders by status."""
    return dict(connection.execute(_query("count_places"), binary=True).fetchall())


def find(connection: Connection, check: str, *, limit: int) -> list[UUID]:
    """Return orders that break one of ``CHECKS``."""
    parameters = {
        "limit": limit,
        "final": list(FINAL),
        "moves": [f"{before}>{after}" for before in TRANSITIONS for after in TRANSITIONS[before]],
    }
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return cursor.execute(_query(check), parameters).fetchall()


def find_stuck_orders(
    connection: Connection, deadlines: Mapping[Status, float], *, limit: int
) -> list[StuckOrder]:
    """Return orders whose next stage is later than its deadline (seconds), the latest first."""
    parameters = {
        "stages": list(deadlines),
        "deadlines": list(deadlines.values()),
        "limit": limit,
    }
    with connection.cursor(row_factory=args_row(StuckOrder), binary=True) as cursor:
        return cursor.execute(_query("find_stuck_orders"), parameters).fetchall()


def count_stuck_rows(connection: Connection, deadlines: Mapping[Status, float]) -> int:
    """Return how many rows are later than their stage's deadline (seconds)."""
    parameters = {"stages": list(deadlines), "deadlines": list(deadlines.values())}
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return int(cursor.execute(_query("count_stuck_rows"), parameters).fetchone() or 0)


def repair_stranded_orders(
    connection: Connection, ids: Sequence[UUID], *, next_stages: Mapping[Status, Status]
) -> int:
    """Give orders the row of their next stage again; return how many had none."""
    parameters = {
        "ids": ids,
        "statuses": list(next_stages),
        "stages": list(next_stages.values()),
    }
    return connection.execute(_query("repair_stranded_orders"), parameters).rowcount
