"""The statements on orders and their events; they never commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

import msgspec
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.event import MESSAGES, EventKind, OrderEvent
from slimtrack.domain.order import Flow, NewOrder, Order, Status, sources_of, time_of
from slimtrack.domain.outcome import Outcome
from slimtrack.domain.schedule import Due
from slimtrack.domain.traceparent import TracedRow
from slimtrack.domain.tracking_code import format_code
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection

#: Statuses whose events say which delivery attempt they are about.
_ATTEMPTED: Final = [Status.OUT_FOR_DELIVERY, Status.DELIVERED, Status.DELIVERY_FAILED]


class Advanced(NamedTuple):
    """What came of a set: rows that were still there, and orders that moved."""

    claimed: int
    moved: int

    def plus(self, other: Self) -> "Advanced":
        """Return what came of both."""
        return Advanced(self.claimed + other.claimed, self.moved + other.moved)


class Observed(NamedTuple):
    """What there is to tell of a set when it was done.

    Attributes:
        due: seconds since a row was due, the first of them.
        placed: seconds since an order that moved was placed, the first of them.
        traced: the rows whose trace is recorded, with traces on.
    """

    due: float
    placed: float
    traced: Sequence[TracedRow]


class Entry(NamedTuple):
    """An event that is to be written; with ``to_status`` the order moves there.

    ``status`` is only given where the event's differs from the order's, ``attempt`` where somebody
    said which delivery attempt the event is about; ``cause`` completes its idempotency key.
    """

    kind: EventKind
    cause: str
    message: str
    to_status: Status | None = None
    status: Status | None = None
    reason: str | None = None
    location: str | None = None
    source: str | None = None
    attempt: int | None = None
    corrects: int | None = None
    occurred_at: datetime | None = None
    correlation_id: str | None = None


class TestedRow(NamedTuple):
    """An outbox row of a test order, what is to happen to it, and how often its work failed."""

    id: int
    order_id: UUID
    outcome: Outcome
    failures: int
    delivery_attempts: int


def _query(name: str) -> str:
    return statements.load("orders.sql")[name]


def order_of(  # noqa: PLR0917 - a row's columns come in the order of the query
    order_id: UUID,
    tracking_number: int,
    reference: str | None,
    description: str,
    metadata: dict[str, Any],
    flow: str,
    status: str,
    delivery_attempts: int,
    version: int,
    created_at: datetime,
    updated_at: datetime,
) -> Order:
    """Make an order of the columns that every query of orders returns."""
    return Order(
        order_id,
        format_code(tracking_number),
        reference,
        description,
        metadata,
        Flow(flow),
        Status(status),
        delivery_attempts,
        version,
        created_at,
        updated_at,
    )


def event_of(  # noqa: PLR0917 - as above
    sequence: int,
    kind: str,
    status: str,
    message: str,
    reason: str | None,
    location: str | None,
    source: str | None,
    attempt: int | None,
    corrects: int | None,
    occurred_at: datetime,
    recorded_at: datetime,
) -> OrderEvent:
    """Make an event of the columns that every query of events returns."""
    return OrderEvent(
        sequence,
        EventKind(kind),
        Status(status),
        message,
        reason,
        location,
        source,
        attempt,
        corrects,
        occurred_at,
        recorded_at,
    )


def place_orders(
    connection: Connection,
    orders: Sequence[NewOrder],
    *,
    outcomes: Sequence[Outcome | None],
    next_stage: Status,
    next_delay: float,
    fan_out: bool,
    traceparent: str | None,
) -> dict[UUID, int]:
    """Store new orders, each with its first event and outbox row.

    Returns the tracking number by id; an order whose id or reference is taken is left out.
    """
    parameters = {
        "ids": [order.id for order in orders],
        "tenant_ids": [order.tenant_id for order in orders],
        "references": [order.reference for order in orders],
        "descriptions": [order.description for order in orders],
        "metadata": [msgspec.json.encode(order.metadata).decode() for order in orders],
        "flows": [order.flow for order in orders],
        "outcomes": list(outcomes),
        "correlation_ids": [order.correlation_id for order in orders],
        "created_ats": [time_of(order.id) for order in orders],
        "status": Status.RECEIVED,
        "message": MESSAGES[Status.RECEIVED],
        "next_stage": next_stage,
        "next_delay": next_delay,
        "fan_out": fan_out,
        "traceparent": traceparent,
    }
    rows = connection.execute(_query("place_orders"), parameters, prepare=True, binary=True)
    return dict(rows.fetchall())


def place_order(
    connection: Connection,
    order: NewOrder,
    *,
    outcome: Outcome | None,
    next_stage: Status,
    next_delay: float,
    fan_out: bool,
    traceparent: str | None,
) -> int | None:
    """Store a new order with its first event and outbox row.

    Returns its tracking number; None where its id or reference is taken.
    """
    parameters = {
        "id": order.id,
        "tenant_id": order.tenant_id,
        "reference": order.reference,
        "description": order.description,
        "metadata": msgspec.json.encode(order.metadata).decode(),
        "flow": order.flow,
        "outcome": outcome,
        "correlation_id": order.correlation_id,
        "created_at": time_of(order.id),
        "status": Status.RECEIVED,
        "message": MESSAGES[Status.RECEIVED],
        "next_stage": next_stage,
        "next_delay": next_delay,
        "fan_out": fan_out,
        "traceparent": traceparent,
    }
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return cursor.execute(_query("place_order"), parameters, prepare=True).fetchone()


def find_orders(
    connection: Connection,
    *,
    ids: Sequence[UUID],
    tenant_ids: Sequence[int],
    references: Sequence[str],
) -> list[tuple[int, Order]]:
    """Return the orders that have one of these ids or references, each with its tenant."""

    def read(*columns: Any) -> tuple[int, Order]:
        return columns[-1], order_of(*columns[:-1])

    parameters = {"ids": ids, "tenant_ids": tenant_ids, "references": references}
    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        # Not prepared: a plan that was made while there were few orders would scan all of them.
        return cursor.execute(_query("find_orders"), parameters, prepare=False).fetchall()


def find_order_id(connection: Connection, tracking_number: int) -> UUID | None:
    """Return the id of the order with a tracking number, or None for an unknown one."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        parameters = {"tracking_number": tracking_number}
        found = cursor.execute(_query("find_order_id"), parameters, prepare=True).fetchone()
        return found if isinstance(found, UUID) else None


def get_order(
    connection: Connection, order_id: UUID, *, tenant_id: int | None = None
) -> Order | None:
    """Return one order; None for an unknown id, or one of another tenant."""
    return _get(connection, "get_order", order_id, tenant_id)


def lock_order(
    connection: Connection, order_id: UUID, *, tenant_id: int | None = None
) -> Order | None:
    """Return one order, which nobody else changes until the transaction ends."""
    return _get(connection, "lock_order", order_id, tenant_id)


def get_version(
    connection: Connection, order_id: UUID, *, tenant_id: int | None = None
) -> int | None:
    """Return an order's version; None for an unknown id, or one of another tenant."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        parameters = {"order_id": order_id, "tenant_id": tenant_id}
        return cursor.execute(_query("get_version"), parameters, prepare=True).fetchone()


def _get(connection: Connection, name: str, order_id: UUID, tenant_id: int | None) -> Order | None:
    parameters = {"order_id": order_id, "tenant_id": tenant_id}
    with connection.cursor(row_factory=args_row(order_of), binary=True) as cursor:
        return cursor.execute(_query(name), parameters, prepare=True).fetchone()


def list_order_events(
    connection: Connection, order_id: UUID, *, tenant_id: int | None = None
) -> list[OrderEvent]:
    """Return the history of one order, oldest first; nothing for an unknown id."""
    with connection.cursor(row_factory=args_row(event_of), binary=True) as cursor:
        parameters = {"order_id": order_id, "tenant_id": tenant_id}
        return cursor.execute(_query("list_order_events"), parameters, prepare=True).fetchall()


def append_event(
    connection: Connection,
    order_id: UUID,
    entry: Entry,
    *,
    following: Due,
    fan_out: bool,
    traceparent: str | None,
) -> Order:
    """Write the next event of a locked order, which moves if the entry says where to."""
    parameters = {
        **entry._asdict(),
        "order_id": order_id,
        "attempted": _ATTEMPTED,
        "next_stage": following.stage,
        "next_delay": following.delay,
        "fan_out": fan_out,
        "traceparent": traceparent,
    }
    with connection.cursor(row_factory=args_row(order_of), binary=True) as cursor:
        order = cursor.execute(_query("append_event"), parameters, prepare=True).fetchone()
    if order is None:
        raise LookupError(order_id)  # it was locked, so it is there
    return order


def advance_orders(
    connection: Connection,
    ids: Sequence[int],
    *,
    stage: Status,
    following: Due,
    fan_out: bool,
    to_status: Status | None = None,
    with_tests: bool = False,
    traced: bool = False,
) -> tuple[Advanced, Observed]:
    """Bring the orders of a set of outbox rows through a stage.

    They reach the status that the stage is named after, unless a test order is to reach another
    one. Rows of test orders are only touched with ``with_tests``; those whose trace is recorded are
    only told with ``traced``.
    """
    reached = to_status or stage
    parameters = {
        "ids": ids,
        "stage": stage,
        "to_status": reached,
        "from_statuses": list(sources_of(reached)),
        "message": MESSAGES[reached],
        "attempted": _ATTEMPTED,
        "next_stage": following.stage,
        "next_delay": following.delay,
        "fan_out": fan_out,
        "with_tests": with_tests,
        "traced": traced,
    }

    # Clocks differ: that of whoever placed an order may be ahead of the database's.
    def read(
        claimed: int, moved: int, due: float | None, placed: float | None, rows: Any
    ) -> tuple[Advanced, Observed]:
        traced = [TracedRow(*row) for row in rows or ()]
        return Advanced(claimed, moved), Observed(due or 0.0, max(placed or 0.0, 0.0), traced)

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        row = cursor.execute(_query("advance_orders"), parameters, prepare=True).fetchone()
    return row or read(0, 0, None, None, None)


def find_tested_rows(
    connection: Connection, ids: Sequence[int], *, stage: Status
) -> list[TestedRow]:
    """Return those of some rows that are of test orders."""

    def read(
        row_id: int, order_id: UUID, outcome: str, failures: int, deliveries: int
    ) -> TestedRow:
        return TestedRow(row_id, order_id, Outcome(outcome), failures, deliveries)

    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        query = _query("find_tested_rows")
        return cursor.execute(query, {"ids": ids, "stage": stage}).fetchall()
