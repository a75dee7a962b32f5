"""Placing orders and asking for them, on a real database."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from slimtrack.domain.errors import OrderNotFoundError, ReferenceTakenError, UnavailableError
from slimtrack.domain.listing import Listing
from slimtrack.domain.order import NewOrder, Order, Status, new_order_id
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.tracking import Tracking


def new(description: str = "A parcel", **fields: object) -> NewOrder:
    return NewOrder(id=new_order_id(), description=description, **fields)  # type: ignore[arg-type]


def test_a_placed_order_has_one_event_and_one_outbox_row(
    tracking: Tracking, connection: psycopg.Connection
) -> None:
    order = tracking.place(new(metadata={"städte": ["São Paulo"]}, correlation_id="abc"))

    assert order.status is Status.RECEIVED
    assert tracking.get(order.id) == order
    [event] = tracking.history(order.id)
    assert (event.sequence, event.status) == (1, Status.RECEIVED)
    assert connection.execute(
        "SELECT stage, order_id, from_sequence, attempts, published_at, correlation_id FROM outbox"
    ).fetchall() == [("processing", order.id, 1, 0, None, "abc")]
    assert connection.execute("SELECT idempotency_key FROM order_events").fetchall() == [
        (f"{order.id}:0:received",)
    ]


def test_an_order_that_is_placed_again_is_the_same_order(
    tracking: Tracking, connection: psycopg.Connection
) -> None:
    command = new(reference="PO-1")
    first = tracking.place(command)

    assert tracking.place(command) == first
    assert connection.execute("SELECT count(*) FROM order_events").fetchone() == (1,)


def test_a_reference_that_is_taken_names_the_first_order(tracking: Tracking) -> None:
    first = tracking.place(new(reference="PO-1"))

    with pytest.raises(ReferenceTakenError) as caught:
        tracking.place(new(reference="PO-1"))

    assert caught.value.order_id == first.id


def test_a_reference_placed_by_many_at_once_makes_one_order(
    tracking: Tracking, connection: psycopg.Connection
) -> None:
    commands = [new(reference="PO-1") for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda each: tracking.place_many([each])[0], commands))

    placed = [outcome for outcome in outcomes if isinstance(outcome, Order)]
    assert len(placed) == 1
    assert {outcome for outcome in outcomes if isinstance(outcome, UUID)} == {placed[0].id}
    assert connection.execute(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)"
    ).fetchone() == (1, 1)


def test_many_orders_are_placed_in_one_transaction_and_answered_in_order(
    tracking: Tracking, connection: psycopg.Connection
) -> None:
    taken = tracking.place(new(reference="PO-0"))
    commands = [new(f"Parcel {number}", reference=f"PO-{number % 3}") for number in range(5)]

    outcomes = tracking.place_many(commands)

    assert outcomes[0] == outcomes[3] == taken.id
    assert [outcome.description for outcome in outcomes if isinstance(outcome, Order)] == [
        "Parcel 1",
        "Parcel 2",
    ]
    assert outcomes[4] == commands[1].id
    assert connection.execute("SELECT count(DISTINCT xmin::text) FROM orders").fetchone() == (2,)


def test_orders_are_listed_newest_first_a_page_at_a_time(tracking: Tracking) -> None:
    ids = [tracking.place(new()).id for _ in range(5)]

    every = Listing(tenant_id=1)

    assert tracking.count(every, limit=10) == 5
    assert tracking.count(every, limit=3) == 3
    shown = [
        order.id
        for offset in (0, 2, 4)
        for order in tracking.list(every, limit=2, offset=offset).orders
    ]
    assert shown == sorted(ids, reverse=True)
    assert tracking.list(every, limit=2, offset=6) == ([], None)


def test_an_unknown_order_is_not_found(tracking: Tracking) -> None:
    with pytest.raises(OrderNotFoundError):
        tracking.get(new_order_id())
    with pytest.raises(OrderNotFoundError):
        tracking.history(new_order_id())


def test_connections_that_the_server_has_closed_are_replaced_without_an_error(
    tracking: Tracking, connection: psycopg.Connection
) -> None:
    order = tracking.place(new())
    closed = connection.execute(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'test'"
    ).fetchone()
    assert closed == (2,)

    assert tracking.get(order.id) == order


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with (
        open_pool(
            "postgresql://nobody@127.0.0.1:1/none",
            application_name="test",
            size=1,
            options={},
            timeout=0.3,
        ) as pool,
        pytest.raises(UnavailableError),
    ):
        Tracking(pool, wake_up=lambda: None, schedule=Schedule(dict.fromkeys(Status, 0.0))).place(
            new()
        )


def test_what_takes_too_long_is_said_to_be_unavailable(
    database_url: str, tracking: Tracking, connection: psycopg.Connection
) -> None:
    order = tracking.place(new())
    session = {"statement_timeout": "50ms"}
    with (
        open_pool(
            database_url, application_name="hasty", size=1, options=session, timeout=5
        ) as pool,
        connection.transaction(),
    ):
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        hasty = Tracking(pool, wake_up=lambda: None, schedule=Schedule({}))
        with pytest.raises(UnavailableError, match="too long"):
            hasty.get(order.id)
