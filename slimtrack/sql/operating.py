"""The statements of those who run the system, each bounded; they never commit."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import args_row

from slimtrack.domain.order import STAGES, Status
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


class LateOrder(NamedTuple):
    """An order that is past its deadline, and how often the row that should move it was tried."""

    id: UUID
    status: str
    stage: str
    since: datetime
    attempts: int
    publications: int


def _query(name: str) -> str:
    return statements.load("operating.sql")[name]


def count_lost_rows(
    connection: Connection, *, empty_stages: Collection[Status], limit: int
) -> dict[Status, int]:
    """Return how many rows of each stage would be re-armed, as far as a limit."""
    parameters = {
        "stages": list(STAGES),
        "empty": [stage in empty_stages for stage in STAGES],
        "limit": limit,
    }
    rows = connection.execute(_query("count_lost_rows"), parameters, prepare=False)
    return {Status(stage): count for stage, count in rows}


def find_late_orders(
    connection: Connection, deadlines: Mapping[str, float], *, most: int, limit: int
) -> list[LateOrder]:
    """Return orders whose next stage, or event, is later than its deadline (seconds).

    Of each stage no more than ``most`` rows are looked at of those that wait, and in flight.
    """
    parameters = {
        "stages": list(deadlines),
        "deadlines": list(deadlines.values()),
        "most": most,
        "limit": limit,
    }
    with connection.cursor(row_factory=args_row(LateOrder)) as cursor:
        return cursor.execute(_query("find_late_orders"), parameters, prepare=False).fetchall()


def server_version(connection: Connection) -> str:
    """Return the version of PostgreSQL."""
    [version] = connection.execute(_query("server_version")).fetchone() or [""]
    return str(version)
