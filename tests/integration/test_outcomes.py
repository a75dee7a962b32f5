"""Test orders: each meets on its way with what its reference asks for."""

import threading
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from slimtrack.actors.lock import SharedLock
from slimtrack.actors.stages import Turns, work_alone, work_through
from slimtrack.domain.idempotency import Answer
from slimtrack.domain.order import NewOrder, Status, new_order_id
from slimtrack.domain.outcome import Outcome, SimulatedFailureError, outcome_of
from slimtrack.domain.report import Report
from slimtrack.domain.retry import Failure, RetryPolicy, SetFailedError
from slimtrack.http.openapi.document import document
from slimtrack.use_cases.changing import Changes, Target
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


def rows(connection: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM outbox ORDER BY id")]


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


@pytest.mark.parametrize("moved", [Status.CANCELLED, Status.IN_TRANSIT])
def test_a_test_order_that_is_cancelled_or_further_already_leaves_no_row(
    tracking: Tracking,
    retrying: Retrying,
    connection: psycopg.Connection[Any],
    moved: Status,
) -> None:
    order = place(tracking, "test:cancelled")
    tracking.advance(Status.PROCESSING, rows(connection))
    ids = rows(connection)

    def meanwhile(changes: Changes) -> Answer:
        target = Target(order=order, tenant_id=None)
        if moved is Status.CANCELLED:  # as a worker leaves it that dies half-way
            changes.cancel(target, reason="test")
        else:
            changes.report(target, Report(status=moved))
        return Answer(status=200, headers={}, body=b"")

    tracking.execute(meanwhile)
    assert tracking.advance(Status.IN_TRANSIT, ids) == (1, 0)
    assert not set(ids) & set(rows(connection))
    run(tracking, retrying, connection)
    assert history(tracking, order)[:2] == ["processing", moved]
    assert connection.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def test_a_set_with_failing_test_orders_counts_no_attempt_of_the_others(
    tracking: Tracking, retrying: Retrying, connection: psycopg.Connection[Any]
) -> None:
    references = ["PO-1", "test:fails_once", "PO-2", "test:cancelled", "test:slow/1", "PO-3"]
    orders = {each: place(tracking, each) for each in [*references, "test:fails_always"]}
    tracking.advance(Status.PROCESSING, rows(connection))
    connection.execute("UPDATE outbox SET available_at = now()")
    with pytest.raises(SetFailedError) as failed:
        work_through(rows(connection), partial(tracking.advance, Status.IN_TRANSIT))
    assert all(len(failure.ids) == 1 for failure in failed.value.failures)
    retrying.settle(Status.IN_TRANSIT, failed.value.failures, POLICY)

    reached = {each: tracking.get(order).status for each, order in orders.items()}
    assert reached == {
        **dict.fromkeys(references, Status.IN_TRANSIT),
        "test:cancelled": Status.CANCELLED,
        "test:fails_once": Status.PROCESSING,
        "test:fails_always": Status.PROCESSING,
    }
    assert connection.execute(
        "SELECT order_id FROM outbox WHERE attempts = 1 AND stage = 'in_transit' ORDER BY id"
    ).fetchall() == [(orders["test:fails_once"],), (orders["test:fails_always"],)]
    assert connection.execute(
        "SELECT count(*) FROM outbox WHERE attempts = 0 AND stage = 'out_for_delivery'"
    ).fetchone() == (4,)


def test_an_attempt_that_is_counted_beforehand_has_not_failed_yet(
    tracking: Tracking, retrying: Retrying, connection: psycopg.Connection[Any]
) -> None:
    order = place(tracking, "test:fails_once")
    tracking.advance(Status.PROCESSING, rows(connection))

    def work() -> None:
        work_alone(
            retrying.least_suspicious_first(Status.IN_TRANSIT, rows(connection)),
            lambda row_id: tracking.advance(Status.IN_TRANSIT, [row_id]),
            begin_attempt=partial(retrying.begin_attempt, Status.IN_TRANSIT),
            turns=Turns(SharedLock(), threading.Event()),
        )

    with pytest.raises(SetFailedError) as failed:
        work()
    retrying.settle(Status.IN_TRANSIT, failed.value.failures, POLICY)
    assert connection.execute("SELECT attempts FROM outbox").fetchall() == [(1,)]
    work()
    assert tracking.get(order).status is Status.IN_TRANSIT


def test_every_outcome_has_its_reference() -> None:
    for outcome in Outcome:
        assert outcome_of(f"test:{outcome}") is outcome
    assert outcome_of(None) is outcome_of("test:") is None


def test_every_outcome_is_in_the_documentation() -> None:
    described = document()["paths"]["/api/orders"]["post"]["description"]
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for outcome in Outcome:
        assert f"test:{outcome}" in described
        assert f"`{outcome}`" in readme
