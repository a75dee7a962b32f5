"""The statements on what happened behind the events of orders; they never commit."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from psycopg.rows import args_row

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.incident import Incident, IncidentKind
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import STAGES
from slimtrack.domain.timeline import OpenRow, TimelineEvent
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.orders import event_of

_EVENT_COLUMNS: Final = len(OrderEvent.__struct_fields__)

#: The parameters of ``recording`` for what no person made happen.
BY_NOBODY: Final[Mapping[str, str | None]] = {"operator": None, "reason": None}


def by(action: OperatorAction) -> Mapping[str, str | None]:
    """Return the parameters of ``recording`` for what an operator does."""
    return {"operator": action.operator, "reason": action.reason or None}


def _query(name: str) -> str:
    return statements.load("timeline.sql")[name]


def list_timeline_events(connection: Connection, order_id: UUID) -> list[TimelineEvent]:
    """Return the history of one order with what is known of the rows behind it."""

    def read(*columns: Any) -> TimelineEvent:
        return TimelineEvent(event_of(*columns[:_EVENT_COLUMNS]), *columns[_EVENT_COLUMNS:])

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        query = _query("list_timeline_events")
        return cursor.execute(query, {"order_id": order_id}, prepare=True).fetchall()


def list_incidents(
    connection: Connection, order_ids: Sequence[UUID]
) -> dict[UUID, Sequence[Incident]]:
    """Return the incidents of orders, those of each in the order in which they happened."""

    def read(order_id: UUID, number: int, kind: str, *others: Any) -> Incident:
        return Incident(order_id, number, IncidentKind(kind), *others)

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        query = _query("list_incidents")
        found = cursor.execute(query, {"order_ids": order_ids}, prepare=False).fetchall()
    return {
        order_id: list(incidents)
        for order_id, incidents in groupby(found, key=lambda each: each.order_id)
    }


def find_open_rows(
    connection: Connection, order_id: UUID, *, due_ats: Sequence[datetime]
) -> tuple[list[OpenRow], datetime]:
    """Return the rows of one order that wait or are in flight, and the time.

    Those that wait are only found where they are due at one of the times given.
    """
    parameters = {
        "order_id": order_id,
        "stages": list(STAGES),
        "due_ats": due_ats,
        "since": min(due_ats, default=None),
    }
    with connection.cursor(binary=True) as cursor:
        # Not prepared: a plan that was made while there were few rows would scan all of them.
        found = cursor.execute(_query("find_open_rows"), parameters, prepare=False).fetchall()
    return [OpenRow(*row[1:]) for row in found if row[1] is not None], found[0][0]


def list_revisions(connection: Connection, order_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return of orders what differs whenever there is more to tell of one."""
    rows = connection.execute(_query("list_revisions"), {"order_ids": order_ids}, prepare=False)
    return {order_id: ".".join(map(str, parts)) for order_id, *parts in rows}
