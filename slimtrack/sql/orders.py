"""The statements on orders and their events; they never commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.event import MESSAGES, OrderEvent
from slimtrack.domain.order import NewOrder, Order, Status, sources_of
from slimtrack.sql import statements

Connection = psycopg.Connection[Any]


class Advanced(NamedTuple):
    """What came of a set: rows that were still there, and orders that moved."""

    claimed: int
    moved: int


def _order(  # noqa: PLR0917 - a row's columns come in the order of the query
    order_id: UUID,
    reference: str | None,
    description: str,
    metadata: dict[str, Any],
    status: str,
    version: int,
    created_at: datetime,
    updated_at: datetime,
) -> Order:
    return Order(
        order_id,
        reference,
        description,
        metadata,
        Status(status),
        version,
        created_at,
        updated_at,
    )


def _event(sequence: int, status: str, message: str, occurred_at: datetime) -> OrderEvent:
    return OrderEvent(sequence, Status(status), message, occurred_at)


def place_orders(
    connection: Connection,
    orders: Sequence[NewOrder],
    *,
    next_stage: Status,
    next_delay: float,
) -> dict[UUID, datetime]:
    """Store new orders, each with its first event and outbox row.

    Returns the time of placing by id; an order whose id or reference is taken is left out.
    """
    parameters = {
        "ids": [order.id for order in orders],
        "references": [order.reference for order in orders],
        "descriptions": [order.description for order in orders],
        "metadata": [msgspec.json.encode(order.metadata).decode() for order in orders],
        "correlation_ids": [order.correlation_id for order in orders],
        "status": Status.RECEIVED,
        "message": MESSAGES[Status.RECEIVED],
        "next_stage": next_stage,
        "next_delay": next_delay,
    }
    rows = connection.execute(
        statements.load("orders.sql")["place_orders"], parameters, prepare=True, binary=True
    )
    return dict(rows.fetchall())


def find_orders(
    connection: Connection, *, ids: Sequence[UUID], references: Sequence[str]
) -> list[Order]:
    """Return the orders that have one of these ids or references."""
    with connection.cursor(row_factory=args_row(_order), binary=True) as cursor:
        query = statements.load("orders.sql")["find_orders"]
        return cursor.execute(query, {"ids": ids, "references": references}).fetchall()


def get_order(connection: Connection, order_id: UUID) -> Order | None:
    """Return one order, or None for an unknown id."""
    with connection.cursor(row_factory=args_row(_order), binary=True) as cursor:
        query = statements.load("orders.sql")["get_order"]
        return cursor.execute(query, {"order_id": order_id}, prepare=True).fetchone()


def list_orders(connection: Connection, *, limit: int, offset: int) -> list[Order]:
    """Return orders, newest first."""
    with connection.cursor(row_factory=args_row(_order), binary=True) as cursor:
        query = statements.load("orders.sql")["list_orders"]
        return cursor.execute(query, {"limit": limit, "offset": offset}, prepare=True).fetchall()


def count_orders(connection: Connection) -> int:
    """Return how many orders there are."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        cursor.execute(statements.load("orders.sql")["count_orders"], prepare=True)
        return int(cursor.fetchone() or 0)


def list_order_events(connection: Connection, order_id: UUID) -> list[OrderEvent]:
    """Return the history of one order, oldest first; nothing for an unknown id."""
    with connection.cursor(row_factory=args_row(_event), binary=True) as cursor:
        query = statements.load("orders.sql")["list_order_events"]
        return cursor.execute(query, {"order_id": order_id}, prepare=True).fetchall()


def advance_orders(
    connection: Connection,
    ids: Sequence[int],
    *,
    stage: Status,
    next_stage: Status | None,
    next_delay: float,
) -> Advanced:
    """Bring the orders of a set of outbox rows through a stage."""
    parameters = {
        "ids": ids,
        "stage": stage,
        "from_statuses": list(sources_of(stage)),
        "message": MESSAGES[stage],
        "next_stage": next_stage,
        "next_delay": next_delay,
    }
    with connection.cursor(row_factory=args_row(Advanced), binary=True) as cursor:
        query = statements.load("orders.sql")["advance_orders"]
        row = cursor.execute(query, parameters, prepare=True).fetchone()
    return row or Advanced(0, 0)
