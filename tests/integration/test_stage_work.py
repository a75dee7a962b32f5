"""Stages with work: what is called, when, and what is known of it afterwards."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from observing import cancel_order, wait_until
from psycopg_pool import ConnectionPool

from slimtrack.domain.order import NewOrder, Status, new_order_id
from slimtrack.domain.retry import PermanentError
from slimtrack.domain.work import Assignment, TimeLimitExceededError, WorkError
from slimtrack.routing import Schedule
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.working import Working

STAGE = Status.PROCESSING
Work = Callable[[Assignment], object]


class Carrier:
    """A work that remembers what it was asked for, and does meanwhile what it is told."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.booked: list[Assignment] = []
        self.cancelled: list[Assignment] = []
        self._meanwhile = meanwhile

    def __call__(self, assignment: Assignment) -> None:
        self.booked.append(assignment)
        self._meanwhile()

    def undo(self, assignment: Assignment) -> None:
        self.cancelled.append(assignment)


@pytest.fixture
def order_id(tracking: Tracking) -> UUID:
    new = NewOrder(
        id=new_order_id(), description="A parcel", reference="PO-1", correlation_id="c-1"
    )
    return tracking.place(new).id


@pytest.fixture
def employ(pool: ConnectionPool) -> Callable[..., Working]:
    """Make the use case with some work for its first stage."""

    def build(work: Work, *, time_limit: float = 5.0) -> Working:
        return Working(
            pool,
            wake_up=lambda: None,
            schedule=Schedule(dict.fromkeys(Status, 0.0)),
            works={STAGE: work},
            time_limit=time_limit,
        )

    return build


def rows(connection: psycopg.Connection[Any]) -> list[tuple[int, str, bool]]:
    return connection.execute("SELECT id, stage, undo FROM outbox ORDER BY id").fetchall()


def only_row(connection: psycopg.Connection[Any]) -> int:
    [(row_id, _, _)] = rows(connection)
    return row_id


def test_the_work_is_called_once_with_all_it_needs_and_then_the_order_moves(
    employ: Callable[..., Working],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    order_id: UUID,
) -> None:
    carrier = Carrier()
    working, row = employ(carrier), only_row(connection)
    connection.execute("""UPDATE outbox SET attempts = 1, payload = '{"desk": 7}'""")

    working.perform(STAGE, row)
    working.perform(STAGE, row)

    [assignment] = carrier.booked
    assert assignment.idempotency_key == f"{order_id}:1:processing"
    assert (assignment.order.id, assignment.order.reference) == (order_id, "PO-1")
    assert (assignment.order.status, assignment.stage) == (Status.RECEIVED, STAGE)
    assert (assignment.payload, assignment.attempt) == ({"desk": 7}, 1)
    assert (assignment.correlation_id, assignment.time_limit) == ("c-1", 5.0)
    assert tracking.get(order_id).status == STAGE
    assert [row[1:] for row in rows(connection)] == [("in_transit", False)]
    assert not carrier.cancelled


def test_three_deliveries_at_once_are_one_call(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    def another_one_waits() -> bool:
        waiting = connection.execute(
            "SELECT FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting.fetchone() is not None

    carrier = Carrier(lambda: wait_until(another_one_waits))
    working, row = employ(carrier), only_row(connection)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: working.perform(STAGE, row), range(3)))

    assert len(carrier.booked) == 1
    assert connection.execute(
        "SELECT version FROM orders WHERE id = %s", (order_id,)
    ).fetchone() == (2,)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ArithmeticError("boom"), ArithmeticError),
        (PermanentError("no such street"), PermanentError),
        (TimeoutError("the carrier's"), TimeoutError),
        # Of a database of the work's own: no outage of ours, which would be tried without end.
        (psycopg.OperationalError("gone"), WorkError),
        (SystemExit(1), WorkError),
    ],
)
def test_what_the_work_raises_is_its_rows_failure_and_changes_nothing(
    employ: Callable[..., Working],
    connection: psycopg.Connection[Any],
    order_id: UUID,
    error: BaseException,
    raised: type[Exception],
) -> None:
    def fail() -> None:
        raise error

    carrier = Carrier(fail)
    with pytest.raises(raised, match=str(error)):
        employ(carrier).perform(STAGE, only_row(connection))

    assert len(carrier.booked) == 1
    assert [row[1:] for row in rows(connection)] == [("processing", False)]
    assert connection.execute(
        "SELECT status FROM orders WHERE id = %s", (order_id,)
    ).fetchone() == ("received",)


def test_work_that_hangs_is_left_behind_when_its_time_is_up(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    free = threading.Event()
    carrier = Carrier(lambda: free.wait(30))
    working, row = employ(carrier, time_limit=0.3), only_row(connection)
    started = time.monotonic()
    with pytest.raises(TimeLimitExceededError, match=r"longer than 0\.3 s"):
        working.perform(STAGE, row)

    assert 0.3 <= time.monotonic() - started < 5
    # Whoever is handed the row next finds it free.
    free.set()
    working.perform(STAGE, row)
    assert [each.idempotency_key for each in carrier.booked] == [f"{order_id}:1:processing"] * 2
    assert [row[1:] for row in rows(connection)] == [("in_transit", False)]


def test_an_order_that_is_cancelled_during_the_call_has_its_work_undone(
    employ: Callable[..., Working],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    order_id: UUID,
) -> None:
    carrier = Carrier(lambda: cancel_order(connection, order_id))
    working = employ(carrier)
    working.perform(STAGE, only_row(connection))

    assert [row[1:] for row in rows(connection)] == [("processing", True)]
    assert not carrier.cancelled
    row = only_row(connection)
    assert tracking.advance(STAGE, [row]) == (0, 0), "a set does not take it"
    working.perform(STAGE, row)
    working.perform(STAGE, row)

    assert [each.idempotency_key for each in carrier.booked] == [f"{order_id}:1:processing"]
    assert [each.idempotency_key for each in carrier.cancelled] == [f"{order_id}:1:processing"]
    assert carrier.cancelled[0].order.status == Status.CANCELLED
    assert rows(connection) == []
    assert [event.status for event in tracking.history(order_id)] == ["received", "cancelled"]


def test_an_attempt_whose_process_died_is_undone_when_its_order_was_cancelled_meanwhile(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    carrier = Carrier()
    connection.execute("UPDATE outbox SET attempts = 1, begun_at = now()")
    cancel_order(connection, order_id)
    working = employ(carrier)
    working.perform(STAGE, only_row(connection))
    working.perform(STAGE, only_row(connection))

    assert not carrier.booked, "nobody is asked for what is not wanted any more"
    assert [each.idempotency_key for each in carrier.cancelled] == [f"{order_id}:1:processing"]
    assert rows(connection) == []


def test_work_without_undo_leaves_nothing_to_undo(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    booked: list[Assignment] = []
    cancel_order(connection, order_id)
    employ(booked.append).perform(STAGE, only_row(connection))

    assert rows(connection) == []
    assert not booked


def test_undoing_with_work_that_cannot_any_more_is_no_success(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    employ(Carrier(lambda: cancel_order(connection, order_id))).perform(STAGE, only_row(connection))
    row = only_row(connection)
    with pytest.raises(PermanentError, match="no undo"):
        employ(lambda _: None).perform(STAGE, row)

    assert rows(connection) == [(row, "processing", True)]


def test_a_row_of_an_unknown_order_is_done_with(
    employ: Callable[..., Working], connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    connection.execute("DELETE FROM orders WHERE id = %s", (order_id,))
    carrier = Carrier()
    employ(carrier).perform(STAGE, only_row(connection))

    assert rows(connection) == []
    assert not carrier.booked


#: A worker process of which every call hangs, as far as it matters here.
HANGING = """
import sys, threading
from slimtrack.domain.order import Status
from slimtrack.domain.work import TimeLimitExceededError
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.working import Working

pool = open_pool(sys.argv[1], application_name="test", size=1, options={}, timeout=5)
working = Working(
    pool,
    wake_up=lambda: None,
    schedule=Schedule({}),
    works={Status.PROCESSING: lambda _: threading.Event().wait()},
    time_limit=0.1,
)
for _ in range(25):
    try:
        working.perform(Status.PROCESSING, int(sys.argv[2]))
    except TimeLimitExceededError:
        print("left behind", flush=True)
"""


def test_a_process_with_twenty_calls_left_behind_ends_so_that_another_takes_its_place(
    database_url: str, connection: psycopg.Connection[Any], order_id: UUID
) -> None:
    assert order_id
    row = only_row(connection)
    done = subprocess.run(
        [sys.executable, "-c", HANGING, database_url, str(row)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 75, done.stderr
    assert done.stdout.count("left behind\n") == 19
    assert only_row(connection) == row


@pytest.mark.parametrize(
    ("path", "fault"), [("nosuch:book", "No module named"), ("math:pi", "cannot be called")]
)
def test_work_that_cannot_be_found_is_said_when_a_worker_starts(
    environment: dict[str, str], path: str, fault: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from slimtrack.worker import setup; setup()"],
        env={**environment, "SLIMTRACK_STAGE_WORK": f"in_transit={path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert f"SLIMTRACK_STAGE_WORK names {path}" in done.stderr
    assert fault in done.stderr
