"""The statements about what is stuck or was lost, each bounded; they never commit."""

from collections.abc import Collection, Mapping

from psycopg.rows import args_row

from slimtrack.domain.order import STAGES, Status
from slimtrack.sql import statements
from slimtrack.sql.audit import StuckOrder
from slimtrack.sql.connection import Connection


def _query(name: str) -> str:
    return statements.load("reconciling.sql")[name]


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


def find_first_stuck_orders(
    connection: Connection, deadlines: Mapping[str, float], *, most: int, limit: int
) -> list[StuckOrder]:
    """Return orders whose next stage, or event, is later than its deadline (seconds).

    Of each stage no more than ``most`` rows are looked at of those that wait, and in flight. Their
    errors are not read.
    """
    parameters = {
        "stages": list(deadlines),
        "deadlines": list(deadlines.values()),
        "most": most,
        "limit": limit,
    }
    with connection.cursor(row_factory=args_row(StuckOrder)) as cursor:
        return cursor.execute(
            _query("find_first_stuck_orders"), parameters, prepare=False
        ).fetchall()
