"""The timeline of an order: what happened behind its history, in the order of causes."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID

import psycopg
import pytest
from clients import Caller, Callers
from command import run_slimtrack
from observing import cancel_order, wait_until
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import Scope
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.errors import OrderNotFoundError
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import JOURNEY, Flow, NewOrder, Status, new_order_id
from slimtrack.domain.retry import Failure, PermanentError, ProcessKilledError, RetryPolicy
from slimtrack.domain.timeline import EntryKind, Timeline
from slimtrack.routing import BY_STAGE, Schedule
from slimtrack.sql import outbox
from slimtrack.stack.processes import plan_publisher, plan_workers
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.working import Working

Connection = psycopg.Connection[Any]
ACTION = OperatorAction(operator="ada", reason="the carrier is back")
#: Due again at once, so that nobody waits.
POLICY = RetryPolicy(max_retries=2, min_backoff=0.0, max_backoff=0.0)


@pytest.fixture
def dead_letters(pool: ConnectionPool) -> DeadLetters:
    return DeadLetters(pool, wake_up=lambda: None)


def place(tracking: Tracking, **fields: Any) -> UUID:
    new = NewOrder(id=new_order_id(), description="A parcel", correlation_id="c-1", **fields)
    return tracking.place(new).id


def publish(connection: Connection) -> list[int]:
    """Publish what is due, as the publisher does; return the rows."""
    with connection.transaction():
        ids = [row.id for row in outbox.claim_due_rows(connection, bound=100, set_size=100).rows]
        outbox.mark_published(connection, ids)
    return ids


def fail(
    retrying: Retrying,
    connection: Connection,
    error: BaseException,
    *,
    policy: RetryPolicy = POLICY,
) -> None:
    """Publish the only row, and let its work fail."""
    [row] = publish(connection)
    [(stage,)] = connection.execute("SELECT stage FROM outbox WHERE id = %s", [row]).fetchall()
    retrying.settle(Status(stage), [Failure(ids=[row], error=error)], policy)


def deliver(tracking: Tracking, connection: Connection, stages: Sequence[Status] = JOURNEY) -> None:
    for stage in stages:
        assert tracking.advance(stage, publish(connection)).moved == 1


def kinds(timeline: Timeline) -> list[str]:
    return [str(entry.kind) for entry in timeline.entries]


def count_incidents(connection: Connection) -> int:
    [(count,)] = connection.execute("SELECT count(*) FROM order_incidents").fetchall()
    return int(count)


WAY = ["promised", "due", "published", "transition"]


def test_an_order_that_goes_through_at_once_adds_no_row_of_its_own(
    tracking: Tracking, connection: Connection
) -> None:
    order = place(tracking)
    deliver(tracking, connection)

    told = tracking.timeline(order)

    assert kinds(told) == ["transition", *(WAY * 4)]
    assert [entry.status for entry in told.entries if entry.status] == ["received", *JOURNEY]
    assert {entry.correlation_id for entry in told.entries} == {"c-1"}
    assert (told.status, told.left_out) == (Status.DELIVERED, 0)
    for before, entry in zip(told.entries, told.entries[1:], strict=False):
        if entry.kind is EntryKind.DUE:
            assert entry.happened_at == before.due_at
    assert count_incidents(connection) == 0


def test_an_order_that_fails_twice_and_then_moves_tells_each_attempt_and_its_delay(
    tracking: Tracking, retrying: Retrying, connection: Connection
) -> None:
    order = place(tracking)
    policy = RetryPolicy(max_retries=5, min_backoff=0.02, max_backoff=0.04)
    for text in ("first", "second"):
        fail(retrying, connection, ArithmeticError(text), policy=policy)
        waits = tracking.timeline(order).entries[-1]
        assert waits.kind in {EntryKind.WAITING, EntryKind.DUE_NOW}
        time.sleep(0.05)
    deliver(tracking, connection, JOURNEY[:1])

    told = tracking.timeline(order)

    tried = ["due", "published"]
    assert kinds(told) == [
        *("transition", "promised", *tried, "failed", *tried, "failed", *tried, "transition"),
        *("promised", "due", "due_now"),
    ]
    failed = [entry for entry in told.entries if entry.kind is EntryKind.FAILED]
    assert [(entry.attempt, entry.error) for entry in failed] == [
        (1, "ArithmeticError: first"),
        (2, "ArithmeticError: second"),
    ]
    for entry, longest in zip(failed, (0.02, 0.04), strict=True):
        assert entry.due_at
        assert longest / 2 <= (entry.due_at - entry.happened_at).total_seconds() <= longest
        again = told.entries[told.entries.index(entry) + 1]
        assert (again.kind, again.happened_at) == (EntryKind.DUE, entry.due_at)
    assert count_incidents(connection) == 2


def test_an_order_that_dies_and_is_replayed_and_delivered_tells_who_did_it_and_why(
    tracking: Tracking, retrying: Retrying, dead_letters: DeadLetters, connection: Connection
) -> None:
    order = place(tracking)
    fail(retrying, connection, PermanentError("no such street"))
    dead = tracking.timeline(order)
    assert kinds(dead)[-1] == "dead_letter"
    [letter] = dead_letters.read(Selection(order_id=order))
    dead_letters.edit(letter.id, payload={"street": "other"}, action=ACTION)
    dead_letters.replay(Selection(order_id=order), action=ACTION)
    deliver(tracking, connection)

    told = tracking.timeline(order)

    assert kinds(told)[:9] == [
        *("transition", "promised", "due", "published", "dead_letter", "edited", "replayed"),
        *("due", "published"),
    ]
    assert told.status is Status.DELIVERED
    died, _, replayed = told.entries[4:7]
    assert (died.attempt, died.error) == (1, "PermanentError: no such street")
    assert (replayed.operator, replayed.reason) == ("ada", "the carrier is back")
    assert replayed.correlation_id == "c-1"


def test_what_is_discarded_is_told_and_nothing_is_awaited(
    tracking: Tracking, retrying: Retrying, dead_letters: DeadLetters, connection: Connection
) -> None:
    order = place(tracking)
    fail(retrying, connection, PermanentError("no"))
    dead_letters.discard(Selection(order_id=order), action=ACTION)

    assert kinds(tracking.timeline(order))[-2:] == ["dead_letter", "discarded"]


def test_a_cancelled_order_tells_that_its_next_stage_is_not_wanted_any_more(
    tracking: Tracking, connection: Connection
) -> None:
    order = place(tracking)
    cancel_order(connection, order)
    expected = ["transition", "promised", "transition", "unwanted"]
    assert kinds(tracking.timeline(order)) == expected

    assert tracking.advance(Status.PROCESSING, publish(connection)).claimed == 1

    assert kinds(tracking.timeline(order)) == expected
    assert count_incidents(connection) == 0


UNDOING = ["unwanted", "undo_promised", "due"]


def test_work_that_is_undone_is_told(
    tracking: Tracking, connection: Connection, pool: ConnectionPool
) -> None:
    class Carrier:
        def __call__(self, _assignment: object) -> None:
            cancel_order(connection, order)

        def undo(self, _assignment: object) -> None:
            pass

    order = place(tracking)
    working = Working(
        pool,
        wake_up=lambda: None,
        schedule=Schedule(dict.fromkeys(Status, 0.0)),
        works={Status.PROCESSING: Carrier()},
        time_limit=5.0,
    )
    working.perform(Status.PROCESSING, *publish(connection))
    assert kinds(tracking.timeline(order))[3:] == [*UNDOING, "due_now"]
    working.perform(Status.PROCESSING, *publish(connection))

    assert kinds(tracking.timeline(order))[3:] == [*UNDOING, "published", "undone"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (None, "due_now", "Due, not yet published: stage processing"),
        ("published_at = now()", "in_flight", "Published, not yet worked on: stage processing"),
        (
            "published_at = now(), begun_at = now(), attempts = 2",
            "in_progress",
            "Being tried: stage processing, attempt 2",
        ),
    ],
)
def test_what_is_awaited_comes_last(
    tracking: Tracking, connection: Connection, change: str | None, kind: str, message: str
) -> None:
    order = place(tracking)
    if change:
        connection.execute(f"UPDATE outbox SET {change}")  # noqa: S608 - ours
    awaited = tracking.timeline(order).entries[-1]
    assert (awaited.kind, awaited.message) == (kind, message)


def test_a_stage_that_is_due_later_is_waited_for_and_found_among_many(
    pool: ConnectionPool, connection: Connection
) -> None:
    tracking = Tracking(pool, wake_up=lambda: None, schedule=Schedule({Status.PROCESSING: 3_600.0}))
    order = place(tracking)
    for _ in range(10):
        tracking.place_many(
            [NewOrder(id=new_order_id(), description="Another") for _ in range(1_000)]
        )
    connection.execute("SELECT pg_stat_force_next_flush()")
    before = scans(connection)

    told = tracking.timeline(order)

    awaited = told.entries[-1]
    assert kinds(told) == ["transition", "promised", "waiting"]
    assert awaited.due_at
    assert 3_500 < (awaited.due_at - told.read_at).total_seconds() <= 3_600
    with pool.connection() as reader:
        reader.execute("SELECT pg_stat_force_next_flush()")
    assert scans(connection) == before


def scans(connection: Connection) -> int:
    [(number,)] = connection.execute(
        "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'outbox'"
    ).fetchall()
    return int(number)


def test_an_order_of_reports_waits_for_one(caller: Caller) -> None:
    order = caller.place()["id"]
    for status in ("processing", "in_transit", "processing"):
        caller.command(order, "reports", {"status": status, "source": "scanner 1"})
    caller.command(order, "corrections", {"sequence": 2, "message": "It was not."})

    entries = caller.simulate_get(f"/api/orders/{order}/timeline").json["entries"]

    assert [entry["kind"] for entry in entries] == [
        *("transition", "transition", "transition", "late", "correction", "waiting")
    ]
    assert entries[-1]["message"] == "Waiting for a report"
    assert entries[3]["source"] == "scanner 1"


def test_an_outage_is_told_once_however_often_it_comes(
    tracking: Tracking, retrying: Retrying, connection: Connection
) -> None:
    order = place(tracking)
    for _ in range(10):
        fail(retrying, connection, psycopg.OperationalError("the server is away"))
    deliver(tracking, connection)

    told = tracking.timeline(order)

    [delayed] = [entry for entry in told.entries if entry.kind is EntryKind.DELAYED]
    assert delayed.repeats == 9
    assert delayed.repeated_at
    assert delayed.repeated_at > delayed.happened_at
    assert count_incidents(connection) == 1


def test_a_row_that_was_published_and_lost_is_told(
    tracking: Tracking, connection: Connection
) -> None:
    order = place(tracking)
    publish(connection)
    now = outbox.read_clock(connection)
    rearmed = outbox.rearm_lost_rows(
        connection,
        empty_stages=list(BY_STAGE),
        counted_at=now,
        disrupted_at=now,
        limit=10,
    )
    assert rearmed == 1
    deliver(tracking, connection)

    assert kinds(tracking.timeline(order))[:8] == [
        *("transition", "promised", "due", "published", "rearmed", "due", "published"),
        "transition",
    ]


def test_a_missing_row_that_was_made_again_is_told(
    tracking: Tracking, connection: Connection, pool: ConnectionPool
) -> None:
    order = place(tracking)
    connection.execute("DELETE FROM outbox")
    assert tracking.timeline(order).entries[-1].message == "Waiting; until when is not known"
    auditing = Auditing(pool, deadlines={})
    assert auditing.repair(auditing.find_stranded(), action=ACTION) == 1

    assert kinds(tracking.timeline(order)) == [
        *("transition", "promised", "repaired", "due", "due_now")
    ]


def test_replays_without_end_keep_the_first_and_the_latest_incidents(
    tracking: Tracking, retrying: Retrying, dead_letters: DeadLetters, connection: Connection
) -> None:
    order = place(tracking)
    for _ in range(75):
        fail(retrying, connection, PermanentError("no"))
        assert dead_letters.replay(Selection(), action=ACTION) == 1
    assert count_incidents(connection) == 100
    numbers = connection.execute("SELECT number FROM order_incidents ORDER BY number").fetchall()
    assert [number for (number,) in numbers] == [*range(1, 21), *range(71, 151)]
    assert tracking.timeline(order).left_out == 50


def test_several_rows_of_one_order_may_fail_in_one_statement(
    tracking: Tracking, retrying: Retrying, connection: Connection
) -> None:
    order = place(tracking)
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, undo)"
        " SELECT stage, order_id, from_sequence, true FROM outbox"
    )
    ids = publish(connection)
    assert len(ids) == 2
    retrying.settle(Status.PROCESSING, [Failure(ids=ids, error=ArithmeticError("no"))], POLICY)

    assert count_incidents(connection) == 2
    assert kinds(tracking.timeline(order)).count("failed") == 2


def test_a_shop_sees_why_in_plain_words_and_an_operator_what_the_error_says(
    callers: Callers, retrying: Retrying, connection: Connection
) -> None:
    shop = callers.make(tenant="shop", scopes=[Scope.ORDERS_READ, Scope.ORDERS_WRITE])
    operator = callers.make(tenant="shop", scopes=list(Scope))
    order = shop.place(flow=Flow.SIMULATED)["id"]
    fail(retrying, connection, ProcessKilledError())
    fail(retrying, connection, ArithmeticError("secret of 10.0.0.7"))

    def failed(caller: Caller) -> list[dict[str, Any]]:
        answer = caller.simulate_get(f"/api/orders/{order}/timeline")
        assert answer.status_code == 200
        return [entry for entry in answer.json["entries"] if entry["kind"] == "failed"]

    assert [entry["message"] for entry in failed(shop)] == [
        "Stage processing: attempt 1 failed: its process ended before the work did",
        "Stage processing: attempt 2 failed: its work raised an error",
    ]
    assert not any("error" in entry or "error_type" in entry for entry in failed(shop))
    assert failed(operator)[1]["error"] == "ArithmeticError: secret of 10.0.0.7"
    assert failed(operator)[1]["error_type"] == "ArithmeticError"


def test_another_tenant_finds_no_timeline(callers: Callers) -> None:
    order = callers.make(tenant="shop").place()
    other = callers.make(tenant="other", scopes=list(Scope))
    for known_as in (order["id"], order["tracking_code"]):
        assert other.simulate_get(f"/api/orders/{known_as}/timeline").status_code == 404
        shop = callers.make(tenant="shop")
        assert shop.simulate_get(f"/api/orders/{known_as}/timeline").status_code == 200
    shop = callers.make(tenant="shop", scopes=[Scope.ORDERS_WRITE])
    assert shop.simulate_get(f"/api/orders/{order['id']}/timeline").status_code == 403


def test_an_unknown_order_has_no_timeline(tracking: Tracking) -> None:
    with pytest.raises(OrderNotFoundError):
        tracking.timeline(new_order_id())


def test_a_restart_of_all_processes_loses_nothing_of_a_timeline(
    environment: dict[str, str], tracking: Tracking, connection: Connection
) -> None:
    order = place(tracking, reference="test:fails_once")
    settings = {**environment, "SLIMTRACK_MIN_BACKOFF": "3"}

    @contextmanager
    def processes() -> Iterator[None]:
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            supervisor.start([plan_publisher(settings), *plan_workers(settings)])
            yield
        finally:
            supervisor.stop()

    with processes():
        wait_until(lambda: count_incidents(connection) == 1)
        [*past, awaited] = tracking.timeline(order).entries
    assert (past[-1].kind, past[-1].attempt) == (EntryKind.FAILED, 1)
    assert past[-1].error_type == "SimulatedFailureError"
    assert (awaited.stage, awaited.attempt) == ("in_transit", 2)
    with processes():
        wait_until(lambda: tracking.get(order).status is Status.DELIVERED)

    told = tracking.timeline(order)

    assert told.entries[: len(past)] == past
    assert kinds(told) == [
        *("transition", *WAY, *WAY[:-1], "failed", *WAY[1:], *WAY, *WAY),
    ]
    assert count_incidents(connection) == 1


@pytest.fixture
def slimtrack(environment: dict[str, str]) -> Callable[..., CompletedProcess[str]]:
    return partial(run_slimtrack, environment=environment)


def test_the_command_prints_a_line_for_each_entry_or_the_json_of_the_api(
    tracking: Tracking,
    retrying: Retrying,
    connection: Connection,
    slimtrack: Callable[..., CompletedProcess[str]],
) -> None:
    order = place(tracking)
    fail(retrying, connection, ArithmeticError("two\nlines"))
    deliver(tracking, connection, JOURNEY[:1])

    shown = slimtrack("track", str(order), "--timeline")
    assert shown.returncode == 0, shown.stderr
    head, *lines = shown.stdout.splitlines()

    assert head.startswith(f"{order}: processing, placed ")
    assert "\x1b" not in "".join(lines)
    told = tracking.timeline(order)
    assert len(lines) == len(told.entries)
    assert [line.split()[2] for line in lines] == kinds(told)
    assert lines[0].split() == ["+0.000", "s", "transition", "Order", "received", "[c-1]"]
    assert "attempt 1 failed: its work raised an error (ArithmeticError: two lines)" in lines[4]
    assert "Due, not yet published: stage in_transit" in lines[-1]
    printed = json.loads(slimtrack("track", str(order), "--timeline", "--json").stdout)
    assert [entry["kind"] for entry in printed["entries"]] == kinds(told)
    assert datetime.fromisoformat(printed["read_at"]) > told.entries[0].happened_at

    assert slimtrack("track", str(order), "--timeline", "--follow").returncode == 2
