"""The statements behind the overview; they never commit."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from psycopg.rows import args_row

from slimtrack.domain.order import STAGES, Status
from slimtrack.domain.overview import Failure, Moves, Sample, StageLoad, StatusCount
from slimtrack.domain.tracking_code import format_code
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection

#: Seconds of the samples that say how the system fares now; two may be missing.
_LATELY: Final = 35.0


def _query(name: str) -> str:
    return statements.load("watching.sql")[name]


def take_sample(
    connection: Connection, *, oldest_due: float, stuck: int | None, most: int, limit: int
) -> bool:
    """Keep a sample, of ``most`` orders at most; False where somebody else was first.

    No more than ``limit`` dead letters are counted.
    """
    parameters = {"oldest_due": oldest_due, "stuck": stuck, "most": most, "limit": limit}
    return bool(connection.execute(_query("take_sample"), parameters, prepare=False).rowcount)


def list_samples(connection: Connection, *, seconds: float) -> list[Sample]:
    """Return the samples of the last so many seconds, oldest first."""

    def read(
        taken_at: float, oldest_due: float, dead_letters: int, stuck: int | None, statuses: Any
    ) -> Sample:
        moves = msgspec.convert(statuses, dict[Status, Moves])
        return Sample(taken_at, oldest_due, dead_letters, stuck, moves)

    with connection.cursor(row_factory=args_row(read)) as cursor:
        return cursor.execute(_query("list_samples"), {"seconds": seconds}).fetchall()


def newest_sample(connection: Connection) -> Sample | None:
    """Return the sample that says how the system fares now; None where nobody took one lately."""
    return next(reversed(list_samples(connection, seconds=_LATELY)), None)


def prune_samples(connection: Connection) -> int:
    """Forget the samples of before the last day; return how many."""
    return connection.execute(_query("prune_samples")).rowcount


def prefer_indexes(connection: Connection) -> None:
    """Have no table scanned until the transaction ends."""
    connection.execute(_query("prefer_indexes"))


def measure_stages(connection: Connection, *, limit: int) -> dict[Status, StageLoad]:
    """Return how the rows of each stage stand; no more than ``limit`` are counted of anything."""
    measured = measure_rows(connection, STAGES, limit=limit)
    return {Status(stage): load for stage, load in measured.items()}


def measure_rows(
    connection: Connection, stages: Iterable[str], *, limit: int
) -> dict[str, StageLoad]:
    """Return the same of any stages, also of the fan-out."""
    parameters = {"stages": list(stages), "limit": limit}
    rows = connection.execute(_query("measure_stages"), parameters, prepare=False)
    return {stage: StageLoad(*figures) for stage, *figures in rows}


def count_statuses(connection: Connection, *, limit: int) -> dict[Status, StatusCount]:
    """Return how many orders are in each status; more than ``limit`` are estimated."""
    parameters = {"statuses": list(Status), "limit": limit}
    rows = connection.execute(_query("count_statuses"), parameters, prepare=False)
    return {Status(status): StatusCount(*figures) for status, *figures in rows}


def list_failures(connection: Connection, *, most: int, limit: int) -> list[Failure]:
    """Return the causes of the latest ``most`` dead letters, the latest ``limit`` of them."""

    def read(*columns: Any) -> Failure:
        stage, error_type, fingerprint, letters, order_id, number, died_at = columns
        return Failure(
            stage and Status(stage),
            error_type,
            fingerprint,
            letters,
            order_id,
            None if number is None else format_code(number),
            died_at,
        )

    with connection.cursor(row_factory=args_row(read)) as cursor:
        parameters = {"most": most, "limit": limit}
        return cursor.execute(_query("list_failures"), parameters).fetchall()
