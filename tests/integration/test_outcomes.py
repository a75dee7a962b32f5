"""Test orders: each meets on its way with what its reference asks for."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from slimtrack.domain.order import NewOrder, Status, new_order_id
from slimtrack.domain.outcome import Outcome, SimulatedFailureError, outcome_of
from slimtrack.domain.retry import Failure, RetryPolicy
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking

POLICY = RetryPolicy(max_retries=2, min_backoff=0, max_backoff=0)


def place(tracking: Tracking, reference: str) -> UUID:
    return tracking.place(NewOrder(id=new_order_id(), description="A test", reference=reference)).id


def run(tracking: Tracking, retrying: Retrying, connection: psycopg.Connection[Any]) -> list[str]:
    """Work on every row, whenever it is due, until none is left; return what has failed."""
    failures = []
    while rows := connection.execute("SELECT id, stage FROM outbox ORDER BY id").fetchall():
        connection.execute("UPDATE outbox SET available_at = now()")
        for row_id, stage in rows:
            try:
                tracking.advance(Status(stage), [row_id])
            except SimulatedFailureError as error:
                failures.append(stage)
                retrying.settle(Status(stage), [Failure(ids=[row_id], error=error)], POLICY)
    return failures


def history(tracking: Tracking, order: UUID) -> list[str]:
    return [event.status for event in tracking.history(order)[1:]]


DELIVERED = ["processing", "in_transit", "out_for_delivery", "delivered"]
AGAIN = ["delivery_failed", "out_for_delivery"]


@pytest.mark.parametrize(
    ("reference", "way", "failures"),
    [
        ("test:fails_once", DELIVERED, 1),
        ("test:fails_always/7", ["processing"], 3),
        ("test:slow", DELIVERED, 0),
        ("test:delivery_failed/a/b", [*DELIVERED[:3], *AGAIN, "delivered"], 0),
        ("test:returned", [*DELIVERED[:3], *AGAIN, *AGAIN, "delivery_failed", "returned"], 0),
        ("test:cancelled", ["processing", "cancelled"], 0),
        ("test:unknown", DELIVERED, 0),
        ("PO-test:returned", DELIVERED, 0),
    ],
)
def test_a_test_order_goes_the_way_that_it_asks_for(  # noqa: PLR0917 - fixtures and a case
    tracking: Tracking,
    retrying: Retrying,
    connection: psycopg.Connection[Any],
    reference: str,
    way: list[str],
    failures: int,
) -> None:
    order = place(tracking, reference)
    assert run(tracking, retrying, connection) == ["in_transit"] * failures
    assert history(tracking, order) == way
    dead = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    assert dead == (int(reference.startswith("test:fails_always")),)


def test_a_slow_stage_is_due_later(tracking: Tracking, connection: psycopg.Connection[Any]) -> None:
    place(tracking, "test:slow")
    [row] = connection.execute("SELECT id FROM outbox").fetchall()
    tracking.advance(Status.PROCESSING, [row[0]])
    assert connection.execute(
        "SELECT stage, extract(epoch FROM available_at - created_at)::float FROM outbox"
    ).fetchall() == [("in_transit", 30.0)]


def test_neighbours_of_a_test_order_are_not_held_up(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    orders = [place(tracking, f"PO-{number}") for number in range(5)]
    place(tracking, "test:fails_always")
    ids = [row[0] for row in connection.execute("SELECT id FROM outbox")]
    tracking.advance(Status.PROCESSING, ids)
    ids = [row[0] for row in connection.execute("SELECT id FROM outbox")]
    with pytest.raises(SimulatedFailureError):
        tracking.advance(Status.IN_TRANSIT, ids)
    assert {tracking.get(order).status for order in orders} == {Status.IN_TRANSIT}


def test_every_outcome_has_its_reference() -> None:
    for outcome in Outcome:
        assert outcome_of(f"test:{outcome}") is outcome
    assert outcome_of(None) is outcome_of("test:") is None
