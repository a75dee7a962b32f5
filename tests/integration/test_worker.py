"""Real worker processes and a real publisher, when the work fails or a server is away."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pika
import psycopg
import pytest
from observing import count, count_waiting, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy

from slimtrack.domain.order import NewOrder, new_order_id
from slimtrack.stack.processes import plan_publisher, plan_workers
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.tracking import Tracking


@contextmanager
def running(
    services: Sequence[Service], *, on_line: Callable[[str, str], None] = lambda *_: None
) -> Iterator[None]:
    supervisor = Supervisor(on_line=on_line)
    try:
        supervisor.start(services)
        yield
    finally:
        supervisor.stop()


def workers(environment: dict[str, str], **more: str) -> AbstractContextManager[None]:
    """A publisher and a worker group for each queue, with more settings."""
    settings = {**environment, **more}
    return running([plan_publisher(settings), *plan_workers(settings)])


def place(tracking: Tracking, *descriptions: str) -> None:
    tracking.place_many(
        [NewOrder(id=new_order_id(), description=description) for description in descriptions]
    )


def refuse_poison(connection: psycopg.Connection[Any]) -> None:
    """Make the work fail for orders that are described as poison, and for no other."""
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'poison' USING ERRCODE = 'P0001'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW"
        " WHEN (OLD.description = 'poison') EXECUTE FUNCTION refuse()"
    )


def test_a_row_that_fails_ends_as_a_dead_letter_and_its_neighbours_are_delivered(
    environment: dict[str, str], tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    refuse_poison(connection)
    place(tracking, *["good"] * 60, "poison", *["good"] * 39)
    with workers(environment, SLIMTRACK_MIN_BACKOFF="0.2", SLIMTRACK_MAX_RETRIES="2"):
        wait_until(lambda: count(connection, "outbox") == 0)

    assert count(connection, "orders WHERE status = 'delivered'") == 99
    assert connection.execute(
        "SELECT attempts, error_type, error LIKE '%poison%', traceback LIKE '%advance%'"
        " FROM dead_letters"
    ).fetchall() == [(3, "RaiseException", True, True)]


def test_workers_take_leave_when_they_are_stopped(
    environment: dict[str, str], connection: psycopg.Connection[Any]
) -> None:
    with workers(environment):
        wait_until(lambda: count(connection, "processes WHERE kind = 'worker'") == 4)
    assert count(connection, "processes") == 0


def test_a_database_that_is_away_costs_no_attempt_and_no_order(
    environment: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    database_url: str,
) -> None:
    said: list[str] = []
    with Proxy(database_url) as proxy:
        # Away for the workers alone: else nothing would be published, and nothing would fail.
        services = plan_workers({**environment, "DATABASE_URL": proxy.url})
        with running(
            [plan_publisher(environment), *services], on_line=lambda _, line: said.append(line)
        ):
            place(tracking, "before")
            wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 1)

            proxy.refuse()
            place(tracking, *["during"] * 50)
            wait_until(lambda: count(connection, "outbox WHERE published_at IS NOT NULL") == 50)
            wait_until(lambda: any("failure.unsettled" in line for line in said))
            proxy.accept()

            wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 51)
    assert count(connection, "outbox") == count(connection, "dead_letters") == 0
    assert count(connection, "order_events") == 5 * 51
    # How many a worker had taken before the database was back depends on how they were published.
    assert count(connection, "order_incidents WHERE kind = 'delayed'") > 0
    assert count(connection, "order_incidents WHERE kind = 'failed'") == 0


def test_what_is_no_message_of_ours_ends_as_a_dead_letter_and_stops_nobody(
    environment: dict[str, str],
    tracking: Tracking,
    channel: BlockingChannel,
    connection: psycopg.Connection[Any],
) -> None:
    queue = "orders.processing"
    place(tracking, "good")
    ours: dict[str, Any] = {
        "queue_name": queue,
        "actor_name": "start_processing",
        "args": [[2**40]],
        "kwargs": {},
        "options": {},
        "message_id": "m",
        "message_timestamp": 0,
    }
    strange: list[dict[str, Any]] = [
        *({"args": ["7"]}, {"args": [[True]]}, {"args": [[2**70]]}, {"args": []}, {"args": 3}),
        *({"kwargs": None}, {"kwargs": {"again": 1.5}}, {"options": None}, {"options": {"eta": 0}}),
        *({"actor_name": None}, {"queue_name": "orders.delivered"}, {"message_id": 5}),
    ]
    bodies = [b"\xff not JSON", *(json.dumps({**ours, **each}).encode() for each in strange)]
    with workers(environment):
        for body in bodies:
            channel.basic_publish("", queue, body)
        channel.basic_publish("", queue, json.dumps({**ours, "actor_name": "nobody"}).encode())
        wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 1)
        # All but two, which are ours by their form and name no row that is in flight.
        wait_until(lambda: count(connection, "dead_letters") == len(bodies) - 1)
        wait_until(lambda: count_waiting(channel, f"{queue}.XQ") == 0)

    assert connection.execute("SELECT body FROM dead_letters").fetchall() == [
        (body,) for body in bodies if b'"orders.delivered"' not in body
    ]
    # The declaration names no expiry: one that did would be refused by the broker.
    channel.queue_declare(f"{queue}.XQ", durable=True, arguments={})
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        channel.queue_declare(f"{queue}.DQ", passive=True)
