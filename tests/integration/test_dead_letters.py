"""Dead letters: found, understood, replayed once, put away; and drained from the broker."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import dramatiq
import psycopg
import pytest
from burying import bury
from command import run_slimtrack
from observing import count, count_waiting, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from psycopg_pool import ConnectionPool

from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import NewOrder, Status, new_order_id
from slimtrack.outbox.drain import Drain
from slimtrack.routing import BY_QUEUE
from slimtrack.sql import dead_letters as sql
from slimtrack.use_cases.dead_letters import DeadLetters, NotARowError, OperationRepeatedError
from slimtrack.use_cases.tracking import Tracking

QUEUE = "orders.processing"
ACTION = OperatorAction(operator="tester", reason="because")


@pytest.fixture
def dead_letters(pool: ConnectionPool) -> DeadLetters:
    return DeadLetters(pool, wake_up=lambda: None)


@pytest.fixture
def drain(dead_letters: DeadLetters, amqp_url: str) -> Iterator[Drain]:
    broker = ConfirmedPublisher(amqp_url, queue_names=list(BY_QUEUE), on_ready=lambda: None)
    with closing(broker):
        wait_until(lambda: broker.is_ready)
        yield Drain(dead_letters, broker=broker, amqp_url=amqp_url)


def test_a_replay_moves_rows_back_where_they_are_due_with_all_their_attempts(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    first, *_others = bury(connection, tracking, "A: one", "B: two", "B: two")

    assert dead_letters.replay(Selection(ids=(first,)), action=ACTION) == 1

    [row] = connection.execute(
        "SELECT id, stage, from_sequence, attempts, publications, available_at <= now(),"
        " published_at FROM outbox"
    ).fetchall()
    assert row[1:] == ("processing", 1, 0, 3, True, None)
    assert count(connection, "dead_letters") == 2
    assert tracking.advance(Status.PROCESSING, [row[0]]).moved == 1


def test_an_operation_that_is_repeated_changes_nothing(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    bury(connection, tracking, "A: one", "A: one")
    action = OperatorAction(operator="tester", reason="carrier is back", operation="op-1")
    assert dead_letters.replay(Selection(), action=action) == 2
    bury(connection, tracking, "A: new")

    with pytest.raises(OperationRepeatedError, match="op-1"):
        dead_letters.replay(Selection(), action=action)

    assert count(connection, "dead_letters") == 1
    assert connection.execute(
        "SELECT action, operation, operator, reason, affected FROM operator_actions"
    ).fetchall() == [("replay", "op-1", "tester", "carrier is back", 2)]


def test_a_rate_spreads_the_rows_over_time(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    bury(connection, tracking, *["A: one"] * 5)

    dead_letters.replay(Selection(), action=ACTION, rate=2)

    assert connection.execute(
        "SELECT extract(epoch FROM available_at - min(available_at) OVER ())::float"
        " FROM outbox ORDER BY available_at"
    ).fetchall() == [(0.0,), (0.5,), (1.0,), (1.5,), (2.0,)]


def test_what_is_discarded_stays_with_its_reason_and_is_not_replayed_by_chance(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [letter] = bury(connection, tracking, "A: one")

    assert dead_letters.discard(Selection(ids=(letter,)), action=ACTION) == 1
    assert dead_letters.discard(Selection(ids=(letter,)), action=ACTION) == 0
    assert dead_letters.replay(Selection(), action=ACTION) == 0
    assert dead_letters.get(letter).discard_reason == "because"
    assert dead_letters.replay(Selection(discarded=True), action=ACTION) == 1


def test_what_is_discarded_while_a_replay_is_under_way_is_not_replayed(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [letter] = bury(connection, tracking, "A: one")
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor() as others:
        with connection.transaction():
            sql.discard_dead_letters(connection, [letter], action=ACTION)
            replayed = others.submit(dead_letters.replay, Selection(), action=ACTION)
            wait_until(lambda: connection.execute(waits).fetchone() == (1,))
        assert replayed.result() == 0
    assert (count(connection, "outbox"), count(connection, "dead_letters")) == (0, 1)


def test_filters_select_exactly_what_they_say(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    ids = bury(connection, tracking, "A: one", "B: two", "B: two")
    connection.execute(
        "UPDATE dead_letters SET died_at = now() - interval '1 h' WHERE id = %s", (ids[0],)
    )
    letters = list(dead_letters.read(Selection()))
    assert [letter.id for letter in letters] == sorted(ids)

    def chosen(selection: Selection) -> list[int]:
        return [letter.id for letter in dead_letters.read(selection)]

    assert chosen(Selection(error="TWO")) == ids[1:]
    assert chosen(Selection(fingerprint=letters[0].fingerprint)) == ids[:1]
    assert chosen(Selection(order_id=letters[1].order_id)) == [letters[1].id]
    assert chosen(Selection(stage=Status.PROCESSING)) == sorted(ids)
    assert chosen(Selection(stage=Status.DELIVERED)) == []
    assert chosen(Selection(older_than=60)) == ids[:1]
    assert chosen(Selection(newer_than=60)) == ids[1:]
    assert chosen(Selection(ids=())) == []
    assert [letter.id for letter in dead_letters.read(Selection(), limit=2)] == ids[:2]


def test_the_payload_of_a_row_can_be_edited_and_travels_with_its_replay(
    dead_letters: DeadLetters, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [letter] = bury(connection, tracking, "A: one")

    assert dead_letters.edit(letter, payload={"carrier": "other"}, action=ACTION) == 1
    dead_letters.replay(Selection(), action=ACTION)

    assert connection.execute("SELECT payload FROM outbox").fetchone() == ({"carrier": "other"},)


def test_unreadable_messages_are_drained_once_each_and_kept_raw(
    dead_letters: DeadLetters,
    drain: Drain,
    channel: BlockingChannel,
    connection: psycopg.Connection[Any],
) -> None:
    for body in (b"\xff not JSON", b"\xff not JSON", b"[]"):
        channel.basic_publish("", f"{QUEUE}.XQ", body)
    wait_until(lambda: count_waiting(channel, f"{QUEUE}.XQ") == 3)

    assert drain.drain() == 3

    assert count_waiting(channel, f"{QUEUE}.XQ") == 0
    letters = list(dead_letters.read(Selection()))
    assert [(letter.queue, letter.body, letter.order_id) for letter in letters] == [
        (QUEUE, b"\xff not JSON", None),
        (QUEUE, b"[]", None),
    ]
    assert dead_letters.replay(Selection(), action=ACTION) == 0
    with pytest.raises(NotARowError, match="names no row"):
        dead_letters.edit(letters[0].id, payload={}, action=ACTION)
    assert count(connection, "outbox") == 0


def test_a_rejected_message_of_ours_moves_the_rows_that_are_in_flight_and_no_others(
    drain: Drain,
    tracking: Tracking,
    channel: BlockingChannel,
    connection: psycopg.Connection[Any],
) -> None:
    tracking.place_many([NewOrder(id=new_order_id(), description="Parcel") for _ in range(3)])
    rows = [row[0] for row in connection.execute("SELECT id FROM outbox ORDER BY id").fetchall()]
    connection.execute("UPDATE outbox SET published_at = now() WHERE id = ANY(%s)", (rows[:2],))
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=QUEUE, actor_name="nobody", args=(rows,), kwargs={}, options={}
    )
    channel.basic_publish("", f"{QUEUE}.XQ", message.encode())
    wait_until(lambda: count_waiting(channel, f"{QUEUE}.XQ") == 1)

    assert drain.drain() == 1

    assert connection.execute(
        "SELECT outbox_id, actor, error_type FROM dead_letters ORDER BY outbox_id"
    ).fetchall() == [(row, "nobody", "MessageRejectedError") for row in rows[:2]]
    assert connection.execute("SELECT id FROM outbox").fetchall() == [(rows[2],)]


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str, float]:
    """Run the command; return its exit code, what it printed, and the seconds it took."""
    started = time.monotonic()
    done = run_slimtrack("dead-letters", *arguments, environment=environment)
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


@pytest.mark.alone
def test_ten_thousand_dead_letters_are_grouped_counted_and_replayed_once(
    environment: dict[str, str], tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    bury(connection, tracking, *[f"{'ABC'[n % 3]}: failed" for n in range(10_000)])
    count(connection, "dead_letters")
    baseline = run(environment, "--help")[3]

    code, printed, _, seconds = run(environment, "groups", "--json")
    assert code == 0
    groups = [json.loads(line) for line in printed.splitlines()]
    assert sorted(group["count"] for group in groups) == [3_333, 3_333, 3_334]
    assert seconds - baseline < 1.0
    code, printed, _, seconds = run(environment, "replay", "--all", "--dry-run")
    assert (code, printed) == (0, "10,000 would be replayed\n")
    assert seconds - baseline < 1.0

    for expected in ("10,000 replayed\n", "0 replayed\n"):
        code, printed, _, _ = run(environment, "replay", "--all", "--operation", "friday")
        assert (code, printed) == (0, expected)
    assert count(connection, "outbox WHERE available_at <= now()") == 10_000
    assert connection.execute("SELECT max(n) FROM (SELECT count(*) AS n FROM outbox"
                              " GROUP BY order_id) AS rows").fetchone() == (1,)  # fmt: skip


def test_the_command_shows_lists_exports_and_discards(
    environment: dict[str, str], tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    ids = bury(connection, tracking, "A: one", "B: two")

    code, printed, _, _ = run(environment, "list")
    assert code == 0
    assert "B: two" in printed
    code, printed, _, _ = run(environment, "show", str(ids[0]), "--json")
    assert json.loads(printed)["error"] == "A: one"
    assert "Traceback …" in run(environment, "show", str(ids[0]))[1]
    _, printed, _, _ = run(environment, "export", "--error", "two")
    assert [json.loads(line)["id"] for line in printed.splitlines()] == ids[1:]
    assert run(environment, "edit", str(ids[0]), "--payload", '{"a": 1}')[1] == "1 edited\n"
    code, printed, _, _ = run(environment, "discard", str(ids[0]), "--reason", "no such street")
    assert (code, printed) == (0, "1 discarded\n")
    assert count(connection, "operator_actions") == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("replay",), "--all"),
        (("replay", "--all", "--stage", "nowhere"), "out_for_delivery"),
        (("list", "--older-than", "yesterday"), "as in 90s"),
        (("edit", "1", "--payload", "[]"), "JSON object"),
        (("show", "1"), "There is no dead letter 1."),
        (("discard", "1", "--reason", ""), "must not be empty"),
        (("replay", "--all", "--reason", 501 * "x"), "at most 500 characters"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_and_does_nothing(
    environment: dict[str, str],
    connection: psycopg.Connection[Any],
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    code, _, said, _ = run(environment, *arguments)

    assert code != 0
    assert expected in said
    assert count(connection, "operator_actions") == 0
