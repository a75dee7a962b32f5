"""Work outside, called by real workers: they are killed around it, and by it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from carrier import Carrier
from observing import cancel_order
from system import System, copies

from slimtrack.domain.order import NewOrder, new_order_id
from slimtrack.use_cases.tracking import Tracking

#: Those of the crash points that lie around the work.
AROUND = ("work.before_call", "work.after_call")
WORK = {"SLIMTRACK_STAGE_WORK": "in_transit=shop:book", "PYTHONPATH": str(Path(__file__).parent)}


@pytest.fixture
def system(environment: dict[str, str], tmp_path: Path) -> Iterator[System]:
    with System({**environment, **WORK}, tmp_path) as running:
        yield running


def keys(orders: list[str]) -> set[str]:
    """What the carrier has to be asked for, once by its effect: orders were at their 2nd event."""
    return {f"{order_id}:2:in_transit" for order_id in orders}


def delivered(connection: psycopg.Connection[Any]) -> list[str]:
    found = connection.execute("SELECT id::text FROM orders WHERE status = 'delivered'").fetchall()
    return [row[0] for row in found]


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("point", AROUND)
def test_a_worker_killed_around_its_work_asks_again_with_the_same_key(
    system: System, connection: psycopg.Connection[Any], point: str, instances: int
) -> None:
    orders = 30
    with Carrier() as carrier:
        worker = system.worker(CARRIER_URL=carrier.url, SLIMTRACK_FAULT=f"{point}:kill@5")
        system.start(system.api(), system.publisher(), *copies(worker, instances))
        system.place("booked", count=orders)
        system.wait_until(lambda: point in system.fired(), what=f"{point} is passed")
        findings = system.settle()

        assert findings.is_clean, findings
        assert findings.delivered == orders
        assert carrier.bookings == keys(delivered(connection))
        again = sum(carrier.calls.values()) - orders
        # Its own call, and that of the other thread of the process that was killed.
        assert (1 if point == "work.after_call" else 0) <= again <= 2
    system.wait_until(lambda: sum(system.restarts().values()) == 1, what="one was restarted")


def test_work_that_fails_is_tried_again_until_it_succeeds(
    system: System, connection: psycopg.Connection[Any]
) -> None:
    with Carrier() as carrier:
        carrier.failing = 10
        system.start(system.api(), system.publisher(), system.worker(CARRIER_URL=carrier.url))
        system.place("refused", count=20)
        findings = system.settle()

        assert not carrier.failing
        assert findings.is_clean, findings
        assert findings.delivered == 20
        assert carrier.bookings == keys(delivered(connection))
        assert sum(carrier.calls.values()) == 20 + 10


def test_a_row_whose_work_kills_its_process_is_parked_and_its_99_neighbours_are_delivered(
    system: System, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    new = [
        NewOrder(id=new_order_id(), description="poison" if number == 50 else "A parcel")
        for number in range(100)
    ]
    tracking.place_many(new)
    with Carrier(busy=0.02) as carrier:
        system.start(
            system.publisher(), system.worker(CARRIER_URL=carrier.url, SLIMTRACK_MAX_RETRIES="2")
        )
        system.wait_until(lambda: system.count("outbox") == 0, what="nothing is left", timeout=120)

        assert connection.execute(
            "SELECT order_id, attempts, error_type FROM dead_letters"
        ).fetchall() == [(new[50].id, 3, "ProcessKilledError")]
        assert len(delivered(connection)) == 99
        assert carrier.bookings == keys(delivered(connection))
    assert system.restarts()["worker"] == 3


def test_a_row_that_always_runs_beside_one_that_kills_its_process_is_not_parked_with_it(
    system: System, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    """Both come back together, and the call of the innocent one takes longer than the other's."""
    poison, innocent = (
        NewOrder(id=new_order_id(), description=description)
        for description in ("poison for two", "A parcel")
    )
    tracking.place_many([poison, innocent])
    with Carrier(busy=1.5) as carrier:
        system.start(
            system.publisher(), system.worker(CARRIER_URL=carrier.url, SLIMTRACK_MAX_RETRIES="2")
        )
        system.wait_until(lambda: system.count("outbox") == 0, what="nothing is left", timeout=90)

        assert carrier.bookings == {f"{innocent.id}:2:in_transit"}
    assert connection.execute(
        "SELECT attempt, error_type FROM order_incidents WHERE kind = 'failed' AND order_id = %s",
        [innocent.id],
    ).fetchall() == [(1, "ProcessKilledError")], "they ran together, once"
    assert connection.execute(
        "SELECT order_id, attempts, error_type FROM dead_letters"
    ).fetchall() == [(poison.id, 3, "ProcessKilledError")]
    assert delivered(connection) == [str(innocent.id)]
    assert system.restarts()["worker"] == 3


def test_an_order_that_is_cancelled_while_its_worker_is_killed_keeps_no_booking(
    system: System, tracking: Tracking
) -> None:
    def cancel(key: str) -> None:
        with system.connect() as database:
            cancel_order(database, UUID(key.partition(":")[0]))

    tracking.place_many(
        [NewOrder(id=new_order_id(), description=f"Parcel {number}") for number in range(5)]
    )
    fault = "work.after_call:kill,work.after_undo:kill"
    with Carrier(meanwhile=cancel) as carrier:
        system.start(
            system.publisher(), system.worker(CARRIER_URL=carrier.url, SLIMTRACK_FAULT=fault)
        )
        system.wait_until(
            lambda: system.count("outbox") == 0 and len(system.fired()) == 2, what="all is undone"
        )

        assert carrier.bookings == set()
        assert len(carrier.cancelled) == 5
    assert system.fired() == {"work.after_call", "work.after_undo"}
    assert system.count("orders WHERE status = 'cancelled' AND version = 3") == 5
    assert system.count("dead_letters") == 0
