"""The statements on dead letters; they never commit."""

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.rows import kwargs_row, scalar_row

from slimtrack.domain.dead_letter import DeadLetter, DeadLetterGroup, OperatorAction, Selection
from slimtrack.domain.order import Status
from slimtrack.sql import statements

Connection = psycopg.Connection[Any]


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
        "fingerprint": selection.fingerprint,
        "older_than": selection.older_than,
        "newer_than": selection.newer_than,
        "discarded": selection.discarded,
        "after": after,
        "limit": limit,
    }
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return cursor.execute(_query("find_dead_letters"), parameters).fetchall()


def get_dead_letters(connection: Connection, ids: Sequence[int]) -> list[DeadLetter]:
    """Return dead letters with all that is known of them, oldest first."""
    with connection.cursor(row_factory=kwargs_row(DeadLetter), binary=True) as cursor:
        return cursor.execute(_query("get_dead_letters"), {"ids": ids}).fetchall()


def group_dead_letters(connection: Connection, ids: Sequence[int]) -> list[DeadLetterGroup]:
    """Return the groups of these dead letters, the largest first."""
    with connection.cursor(row_factory=kwargs_row(DeadLetterGroup), binary=True) as cursor:
        return cursor.execute(_query("group_dead_letters"), {"ids": ids}).fetchall()


def count_rows(connection: Connection, ids: Sequence[int]) -> int:
    """Return how many of these are outbox rows."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return int(cursor.execute(_query("count_rows"), {"ids": ids}).fetchone() or 0)


def replay_dead_letters(connection: Connection, ids: Sequence[int], *, rate: float | None) -> int:
    """Move rows back into the outbox, ``rate`` a second; messages without rows stay."""
    parameters = {"ids": ids, "rate": rate}
    return connection.execute(_query("replay_dead_letters"), parameters).rowcount


def edit_dead_letter(connection: Connection, letter_id: int, *, payload: dict[str, Any]) -> bool:
    """Replace the payload; False if there is no such row."""
    parameters = {"id": letter_id, "payload": msgspec.json.encode(payload).decode()}
    return connection.execute(_query("edit_dead_letter"), parameters).rowcount == 1


def discard_dead_letters(connection: Connection, ids: Sequence[int], *, reason: str) -> int:
    """Mark dead letters as not to be replayed; return how many were not before."""
    parameters = {"ids": ids, "reason": reason}
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
) -> int:
    """Give up the rows of a message that the broker has put aside; return how many there were."""
    parameters = {
        "ids": ids,
        "stage": stage,
        "actor": actor_name,
        "queue": queue_name,
        "error_type": error_type,
        "error": error,
        "fingerprint": fingerprint,
    }
    return connection.execute(_query("store_rejected_rows"), parameters).rowcount


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


def record_action(
    connection: Connection,
    action: OperatorAction,
    *,
    name: str,
    selection: Selection,
    affected: int,
) -> bool:
    """Record what an operator does; False if the operation was recorded before."""
    parameters = {
        "action": name,
        "operation": action.operation,
        "operator": action.operator,
        "reason": action.reason,
        "selection": msgspec.json.encode(selection).decode(),
        "affected": affected,
    }
    return connection.execute(_query("record_action"), parameters).rowcount == 1
