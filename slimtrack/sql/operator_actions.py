"""The statements on what operators did; they never commit."""

from collections.abc import Mapping

import msgspec
from psycopg.rows import kwargs_row

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import ActionName, OperatorAction, RecordedAction
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


def _query(name: str) -> str:
    return statements.load("operator_actions.sql")[name]


def record_action(
    connection: Connection,
    action: OperatorAction,
    *,
    name: ActionName,
    selection: Selection | Mapping[str, object],
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
        "expected": action.expected,
    }
    return connection.execute(_query("record_action"), parameters).rowcount == 1


def list_actions(connection: Connection, *, before: int | None, limit: int) -> list[RecordedAction]:
    """Return what operators did, the latest first."""
    with connection.cursor(row_factory=kwargs_row(RecordedAction), binary=True) as cursor:
        parameters = {"before": before, "limit": limit}
        return cursor.execute(_query("list_actions"), parameters).fetchall()


def get_action(connection: Connection, operation: str) -> RecordedAction | None:
    """Return what was done under a name; None if nothing was."""
    with connection.cursor(row_factory=kwargs_row(RecordedAction), binary=True) as cursor:
        return cursor.execute(_query("get_action"), {"operation": operation}).fetchone()
