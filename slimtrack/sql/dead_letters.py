"""The statements on dead letters; they never commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.rows import args_row, kwargs_row, scalar_row

from slimtrack.domain.dead_letter import (
    DeadLetter,
    DeadLetterGroup,
    ReplayProgress,
    Selection,
    StoredDeadLetter,
)
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import STAGES, Status
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.timeline import BY_NOBODY, by


def _query(name: str) -> str:
    return statements.load("dead_letters.sql")[name]


def find_dead_letters(
    connection: Connection, selection: Selection, *, after: int = 0, limit: int | None = None
) -> list[int]:
    """Return the ids of the dead letters that are meant, oldest first."""
    parameters = {
        "ids": None if selection.ids is None else list(selection.ids),
        "order_id": selection.order_id,
        "stage": selection.stage,
        "error": selection.error,
        "error_type": selection.error_type,
        "fingerprint": selection.fingerprint,
        "up_to": selection.up_to,
        "older_than": selection.older_than,
        "newer_than": selection.newer_than,
        "discarded": selection.discarded,
        "after": after,
        "limit": limit,
    }
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        # Never a prepared statement: a plan that suits every filter suits none.
        return cursor.execute(_query("find_dead_letters"), parameters, prepare=False).fetchall()


def get_dead_letters(connection: Connection, ids: Sequence[int]) -> list[DeadLetter]:
    """Return dead letters with all that is known of them, oldest first."""
    with connection.cursor(row_factory=kwargs_row(DeadLetter), binary=True) as cursor:
        return cursor.execute(_query("get_dead_letters"), {"ids": ids}).fetchall()


def group_dead_letters(connection: Connection, ids: Sequence[int]) -> list[DeadLetterGroup]:
    """Return the groups of these dead letters, the largest first."""
    with connection.cursor(row_factory=kwargs_row(DeadLetterGroup), binary=True) as cursor:
        # Never a prepared statement: its plan depends on how many they are.
        query = _query("group_dead_letters")
        return cursor.execute(query, {"ids": ids}, prepare=False).fetchall()


def count_rows(connection: Connection, ids: Sequence[int]) -> int:
    """Return how many of these are outbox rows."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return int(cursor.execute(_query("count_rows"), {"ids": ids}).fetchone() or 0)


def replay_dead_letters(
    connection: Connection,
    ids: Sequence[int],
    *,
    discarded: bool,
    rate: float | None,
    action: OperatorAction,
) -> int:
    """Move rows back into the outbox, ``rate`` a second; messages without rows stay.

    So do those that somebody has discarded meanwhile.
    """
    parameters = {"ids": ids, "discarded": discarded, "rate": rate, **by(action)}
    return connection.execute(_query("replay_dead_letters"), parameters).rowcount


def count_waiting(connection: Connection, *, limit: int) -> dict[str, int]:
    """Return how many of each stage nobody has decided about yet, empty for those of none.

    More than the limit are not counted of any.
    """
    parameters = {"stages": list(STAGES), "limit": limit}
    rows = connection.execute(_query("count_waiting"), parameters, prepare=True, binary=True)
    return dict(rows.fetchall())


def edit_dead_letter(
    connection: Connection, letter_id: int, *, payload: dict[str, Any], action: OperatorAction
) -> bool:
    """Replace the payload; False if there is no such row."""
    parameters = {
        "id": letter_id,
        "payload": msgspec.json.encode(payload).decode(),
        **by(action),
    }
    return connection.execute(_query("edit_dead_letter"), parameters).rowcount == 1


def discard_dead_letters(
    connection: Connection, ids: Sequence[int], *, action: OperatorAction
) -> int:
    """Mark dead letters as not to be replayed; return how many were not before."""
    parameters = {"ids": ids, **by(action)}
    return connection.execute(_query("discard_dead_letters"), parameters).rowcount


def store_rejected_rows(
    connection: Connection,
    ids: Sequence[int],
    *,
    stage: Status,
    actor_name: str,
    queue_name: str,
    error_type: str,
    error: str,
    fingerprint: str,
) -> list[StoredDeadLetter]:
    """Give up the rows of a message that the broker has put aside; return what they became."""
    parameters = {
        "ids": ids,
        "stage": stage,
        "actor": actor_name,
        "queue": queue_name,
        "error_type": error_type,
        "error": error,
        "fingerprint": fingerprint,
        **BY_NOBODY,
    }
    with connection.cursor(row_factory=args_row(StoredDeadLetter), binary=True) as cursor:
        return cursor.execute(_query("store_rejected_rows"), parameters).fetchall()


def store_message(
    connection: Connection,
    body: bytes,
    *,
    queue_name: str,
    error_type: str,
    error: str,
    fingerprint: str,
) -> bool:
    """Keep a message that names no row of ours; False if the same one is kept already."""
    parameters = {
        "queue": queue_name,
        "body": body,
        "error_type": error_type,
        "error": error,
        "fingerprint": fingerprint,
    }
    return connection.execute(_query("store_message"), parameters).rowcount == 1


def measure_replay(connection: Connection, *, acted_at: datetime) -> ReplayProgress:
    """Return what became of the rows that were replayed at one moment."""
    parameters = {"acted_at": acted_at, "stages": list(STAGES)}
    with connection.cursor(row_factory=kwargs_row(ReplayProgress), binary=True) as cursor:
        # Not prepared: a plan that was made while there were few rows would scan all of them.
        cursor.execute(_query("measure_replay"), parameters, prepare=False)
        progress = cursor.fetchone()
    assert progress  # noqa: S101 - a count has one row
    return progress
