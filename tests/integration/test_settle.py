"""What becomes of outbox rows whose work failed."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from slimtrack.domain.order import NewOrder, Status, new_order_id
from slimtrack.domain.retry import Failure, PermanentError, ProcessKilledError, RetryPolicy
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking

POLICY = RetryPolicy(max_retries=2, min_backoff=10.0, max_backoff=15.0)


@pytest.fixture
def row(tracking: Tracking, connection: psycopg.Connection[Any]) -> int:
    """The id of an outbox row that is in flight."""
    tracking.place(NewOrder(id=new_order_id(), description="A parcel", correlation_id="c-1"))
    found = connection.execute(
        "UPDATE outbox SET published_at = now(), publications = 1 RETURNING id"
    ).fetchone()
    assert found
    return int(found[0])


def boom(text: str = "boom") -> Exception:
    """An error as it is caught, with a traceback."""
    try:
        raise ArithmeticError(text)  # noqa: TRY301 - a traceback is wanted
    except ArithmeticError as error:
        return error


def settle(
    retrying: Retrying,
    row: int,
    error: BaseException,
    *,
    counted: bool = False,
    policy: RetryPolicy = POLICY,
) -> None:
    failure = Failure(ids=[row], error=error, counted=counted)
    retrying.settle(Status.PROCESSING, [failure], policy)


def make_due(connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE outbox SET available_at = now(), published_at = now()")


def places(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many rows the outbox has, and how many the dead letters."""
    found = connection.execute(
        "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_letters)"
    ).fetchone()
    assert found
    return found[0], found[1]


def test_a_failed_row_is_due_again_after_a_growing_pause(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    for attempts, longest in ((1, 10.0), (2, 15.0)):
        make_due(connection)
        settle(retrying, row, boom())
        found = connection.execute(
            "SELECT attempts, published_at, last_error,"
            " extract(epoch FROM available_at - now())::float FROM outbox"
        ).fetchone()
        assert found
        assert found[:3] == (attempts, None, "ArithmeticError: boom")
        assert longest / 2 - 1 < found[3] <= longest


def test_a_row_is_settled_although_every_connection_was_lost(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    lost = connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'test'"
    ).fetchall()
    assert lost == [(True,)] * 2

    settle(retrying, row, psycopg.OperationalError("the server closed the connection"))

    found = connection.execute("SELECT attempts, published_at FROM outbox").fetchone()
    assert found == (0, None)


def test_after_its_last_attempt_a_row_is_a_dead_letter_with_its_traceback(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    for _ in range(POLICY.max_retries + 1):
        assert places(connection) == (1, 0)
        make_due(connection)
        settle(retrying, row, boom())

    assert places(connection) == (0, 1)
    found = connection.execute(
        "SELECT outbox_id, stage, attempts, correlation_id, error_type, error, traceback"
        " FROM dead_letters"
    ).fetchone()
    assert found
    assert found[:6] == (row, "processing", 3, "c-1", "ArithmeticError", "ArithmeticError: boom")
    assert "raise ArithmeticError" in found[6]


def test_a_failure_that_is_settled_twice_counts_once(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    settle(retrying, row, boom())
    settle(retrying, row, boom())

    assert connection.execute("SELECT attempts FROM outbox").fetchone() == (1,)


@pytest.mark.parametrize(
    "error", [psycopg.OperationalError("gone"), psycopg.errors.DeadlockDetected("stuck")]
)
def test_an_outage_makes_a_row_due_again_and_consumes_no_attempt(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int, error: psycopg.Error
) -> None:
    for _ in range(10):
        make_due(connection)
        settle(retrying, row, error)

    assert connection.execute(
        "SELECT attempts, published_at, available_at > now() FROM outbox"
    ).fetchall() == [(0, None, True)]


def test_what_an_error_says_is_stored_whatever_it_is(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    settle(retrying, row, boom("nul \0 and half a pair \ud83d, " + "x" * 100_000))

    stored = connection.execute("SELECT last_error, length(last_error) FROM outbox").fetchone()
    assert stored
    assert stored[0].startswith("ArithmeticError: nul  and half a pair ?, xxx")
    assert stored[1] == 2000


def test_a_row_that_is_done_already_is_not_settled(
    tracking: Tracking, retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    tracking.advance(Status.PROCESSING, [row])

    settle(retrying, row, boom())

    assert connection.execute("SELECT stage, attempts FROM outbox").fetchall() == [
        ("in_transit", 0)
    ]


def test_an_attempt_that_was_counted_beforehand_is_not_counted_again(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    assert retrying.begin_attempt(Status.PROCESSING, row)
    settle(retrying, row, boom(), counted=True)

    assert connection.execute("SELECT attempts FROM outbox").fetchone() == (1,)


def test_an_outage_takes_back_the_attempt_that_was_counted_beforehand(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    assert retrying.begin_attempt(Status.PROCESSING, row)
    settle(retrying, row, psycopg.OperationalError("gone"), counted=True)

    assert connection.execute("SELECT attempts FROM outbox").fetchone() == (0,)


def test_a_row_whose_every_attempt_ended_its_process_is_given_up(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    for attempt in range(1, POLICY.max_retries + 2):
        assert places(connection) == (1, 0)
        make_due(connection)
        assert retrying.begin_attempt(Status.PROCESSING, row)
        # The process ends here, and the message is delivered again.
        with pytest.raises(ProcessKilledError):
            retrying.begin_attempt(Status.PROCESSING, row)
        assert connection.execute("SELECT attempts FROM outbox").fetchone() == (attempt,)
        settle(retrying, row, ProcessKilledError(), counted=True)

    assert places(connection) == (0, 1)
    assert connection.execute("SELECT attempts, error_type FROM dead_letters").fetchall() == [
        (POLICY.max_retries + 1, "ProcessKilledError")
    ]


def test_a_row_that_became_due_later_meanwhile_has_ended_no_process(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    """Its message was on the way to an actor when the row was re-armed."""
    connection.execute("UPDATE outbox SET available_at = now() + interval '1 hour'")
    assert not retrying.begin_attempt(Status.PROCESSING, row)

    connection.execute("DELETE FROM outbox")
    assert not retrying.begin_attempt(Status.PROCESSING, row)


def test_a_row_that_ended_its_process_waits_before_it_is_tried_again(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    assert retrying.begin_attempt(Status.PROCESSING, row)
    settle(retrying, row, ProcessKilledError(), counted=True)

    assert connection.execute(
        "SELECT attempts, published_at, begun_at, available_at > now() + interval '4 s' FROM outbox"
    ).fetchall() == [(1, None, None, True)]


def test_the_rows_of_a_set_that_took_fewer_attempts_come_first(
    tracking: Tracking, retrying: Retrying, row: int
) -> None:
    retrying.begin_attempt(Status.PROCESSING, row)
    tracking.place(NewOrder(id=new_order_id(), description="Another parcel"))

    ids = [row, row + 1, row + 2]
    assert retrying.least_suspicious_first(Status.PROCESSING, ids) == [
        (row + 1, False),
        (row, False),
    ]
    assert retrying.least_suspicious_first(Status.DELIVERED, ids) == []


@pytest.mark.parametrize("error", [ProcessKilledError(), ValueError("bad")])
def test_a_row_whose_last_attempt_ended_its_process_is_known_as_such(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int, error: Exception
) -> None:
    settle(retrying, row, error)
    connection.execute("UPDATE outbox SET available_at = now()")

    [suspect] = retrying.least_suspicious_first(Status.PROCESSING, [row])
    assert suspect.ended_process is isinstance(error, ProcessKilledError)


def test_an_error_that_no_retry_can_help_is_a_dead_letter_at_once(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int
) -> None:
    settle(retrying, row, PermanentError("There is no such street."))

    assert places(connection) == (0, 1)
    assert connection.execute(
        "SELECT attempts, actor, queue, first_failed_at <= died_at FROM dead_letters"
    ).fetchall() == [(1, "start_processing", "orders.processing", True)]


@pytest.mark.parametrize("counted", [False, True])
def test_a_policy_may_decide_by_the_error_and_the_retries_so_far(
    retrying: Retrying, connection: psycopg.Connection[Any], row: int, *, counted: bool
) -> None:
    asked: list[int] = []

    def retry_when(retries: int, error: BaseException) -> bool:
        asked.append(retries)
        return isinstance(error, ArithmeticError) and retries < 3

    policy = replace(POLICY, retry_when=retry_when)
    for _ in range(4):
        assert places(connection) == (1, 0)
        make_due(connection)
        if counted:
            assert retrying.begin_attempt(Status.PROCESSING, row)
        settle(retrying, row, boom(), counted=counted, policy=policy)

    assert asked == [0, 1, 2, 3]
    assert places(connection) == (0, 1)
    assert connection.execute("SELECT attempts FROM dead_letters").fetchone() == (4,)
