"""Events for other services: every one, at least once, as CloudEvents."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import psycopg
import pytest
import yaml
from clients import Caller, Callers
from cloudevents.http import from_json
from observing import count_waiting, take_all, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from psycopg_pool import ConnectionPool

from slimtrack.broker.events import CloudEvent
from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.broker.topology import EVENT_EXCHANGE
from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import JOURNEY, Order, Status
from slimtrack.outbox.fan_out import FanOut, publish_left
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.stack.processes import plan_publisher
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.tracking import Tracking

ASYNCAPI = Path(__file__).parents[2] / "docs/asyncapi.yaml"
NO_DELAYS = dict.fromkeys(JOURNEY, 0.0)


@pytest.fixture
def tracking(pool: ConnectionPool) -> Tracking:
    """The use cases, which publish events."""
    return Tracking(pool, wake_up=lambda: None, schedule=Schedule(NO_DELAYS), fan_out=True)


@pytest.fixture
def broker(amqp_url: str) -> Iterator[ConfirmedPublisher]:
    ready = threading.Event()
    publisher = ConfirmedPublisher(amqp_url, exchange=EVENT_EXCHANGE, on_ready=ready.set)
    assert ready.wait(10)
    yield publisher
    publisher.close()


@contextmanager
def bound(channel: BlockingChannel, pattern: str = "order.#") -> Iterator[str]:
    channel.exchange_declare(EVENT_EXCHANGE, "topic", durable=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EVENT_EXCHANGE, pattern)
    yield queue
    channel.queue_delete(queue)


def fan_out_rows(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM outbox WHERE stage = 'events'").fetchone()
    assert row
    return int(row[0])


def test_every_change_is_an_event_that_the_cloudevents_sdk_reads(
    caller: Caller,
    pool: ConnectionPool,
    broker: ConfirmedPublisher,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    order = caller.place(reference="PO-1", metadata={"gift": True})
    caller.command(order["id"], "reports", {"status": "processing", "location": "Kraków"})
    caller.command(order["id"], "reports", {"status": "processing"})
    caller.command(order["id"], "corrections", {"sequence": 2, "message": "Wrong hub"})
    caller.command(order["id"], "cancel", {"reason": "Sold out"}, X_Request_ID="checkout-7")
    assert fan_out_rows(connection) == 5
    with bound(channel) as queue:
        assert FanOut(pool, broker=broker, wanted=threading.Event()).publish_due() == 5
        wait_until(lambda: count_waiting(channel, queue) == 5)
        taken = take_all(channel, queue)
    assert fan_out_rows(connection) == 0
    described = yaml.safe_load(ASYNCAPI.read_text())
    validator = jsonschema_rs.validator_for(
        {**described["components"]["schemas"]["CloudEvent"], "components": described["components"]},
        validate_formats=True,
    )
    for _, body in taken:
        validator.validate(json.loads(body))
    events = [from_json(body) for _, body in taken]
    assert [event["type"].removeprefix("slimtrack.order.") for event in events] == [
        "received",
        "processing",
        "late_report",
        "correction",
        "cancelled",
    ]
    for sequence, ((properties, body), event) in enumerate(zip(taken, events, strict=True), 1):
        assert event["specversion"] == "1.0"
        assert event["id"] == f"{order['id']}:{sequence}" == properties.message_id
        assert event["subject"] == order["id"]
        assert event["source"] == "/slimtrack/orders"
        assert properties.delivery_mode == 2
        assert properties.content_type == "application/cloudevents+json"
        data = json.loads(body)["data"]
        assert data["event"] == caller.events(order["id"])[sequence - 1]
        assert data["order"]["tracking_code"] == order["tracking_code"]
    assert events[-1]["correlationid"] == "checkout-7"
    assert events[-1].data["event"]["reason"] == "Sold out"


def test_a_subscriber_hears_what_it_asked_for(
    caller: Caller, pool: ConnectionPool, broker: ConfirmedPublisher, channel: BlockingChannel
) -> None:
    with bound(channel, "order.cancelled") as queue:
        for _ in range(3):
            order = caller.place()
        caller.command(order["id"], "cancel")
        FanOut(pool, broker=broker, wanted=threading.Event()).publish_due()
        wait_until(lambda: count_waiting(channel, queue) == 1)


def test_events_without_a_subscriber_are_gone(
    caller: Caller,
    pool: ConnectionPool,
    broker: ConfirmedPublisher,
    connection: psycopg.Connection,
) -> None:
    caller.place()
    assert FanOut(pool, broker=broker, wanted=threading.Event()).publish_due() == 1
    assert fan_out_rows(connection) == 0


def test_events_that_are_not_confirmed_stay(
    caller: Caller, pool: ConnectionPool, connection: psycopg.Connection, amqp_url: str
) -> None:
    caller.place()
    publisher = ConfirmedPublisher(amqp_url, exchange=EVENT_EXCHANGE, on_ready=lambda: None)
    publisher.close()
    assert FanOut(pool, broker=publisher, wanted=threading.Event()).publish_due() == 0
    assert fan_out_rows(connection) == 1


def test_an_event_that_a_queue_refuses_does_not_keep_the_others_waiting(
    caller: Caller,
    pool: ConnectionPool,
    connection: psycopg.Connection,
    channel: BlockingChannel,
    broker: ConfirmedPublisher,
) -> None:
    full = channel.queue_declare(
        "", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    ).method.queue
    channel.queue_bind(full, EVENT_EXCHANGE, "order.cancelled")
    fan_out = FanOut(pool, broker=broker, wanted=threading.Event())
    with bound(channel) as queue:
        for _ in range(5):
            caller.command(caller.place()["id"], "cancel")
        # Ten events; the full queue takes one of the cancellations, and refuses the rest.
        assert fan_out.publish_due() == 6
        assert fan_out_rows(connection) == 4
        caller.place()
        assert fan_out.publish_due() == 1
        # Those that were refused wait, longer each time, instead of being sent again and again.
        waiting = connection.execute(
            "SELECT count(*), min(attempts), bool_and(available_at > now()) FROM outbox"
            " WHERE stage = 'events'"
        ).fetchone()
        assert waiting == (4, 1, True)
        channel.queue_purge(full)
        connection.execute("UPDATE outbox SET available_at = now()")
        assert fan_out.publish_due() == 1
        pauses = connection.execute(
            "SELECT round(extract(epoch FROM max(available_at) - now())) FROM outbox"
        ).fetchone()
        assert pauses
        assert pauses[0] == 1
        # Whoever took them the first time has them again; their ids tell.
        wait_until(lambda: count_waiting(channel, queue) == 15)


def test_two_publishers_share_the_rows(
    caller: Caller,
    pool: ConnectionPool,
    connection: psycopg.Connection,
    channel: BlockingChannel,
    broker: ConfirmedPublisher,
) -> None:
    rows = [{"description": "a"}] * 1000
    caller.simulate_post("/api/orders/bulk", json=rows)
    caller.simulate_post("/api/orders/bulk", json=rows)
    with bound(channel) as queue:
        fan_outs = [FanOut(pool, broker=broker, wanted=threading.Event()) for _ in range(2)]

        def drain(fan_out: FanOut) -> None:
            while fan_out.publish_due():
                pass

        threads = [threading.Thread(target=drain, args=(each,)) for each in fan_outs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: count_waiting(channel, queue) == 2000)
        ids = Counter(properties.message_id for properties, _ in take_all(channel, queue))
    assert len(ids) == 2000
    assert fan_out_rows(connection) == 0


def test_off_no_row_is_written(
    pool: ConnectionPool, connection: psycopg.Connection, settings: Settings
) -> None:
    tracking = Tracking(pool, wake_up=lambda: None, schedule=Schedule(NO_DELAYS))
    quiet = Callers(tracking, pool, redis_url=settings.redis_url).make(tenant="quiet")
    order = quiet.place()
    quiet.command(order["id"], "cancel")
    assert fan_out_rows(connection) == 0


def test_the_command_shows_events_as_they_come(
    caller: Caller,
    pool: ConnectionPool,
    broker: ConfirmedPublisher,
    environment: dict[str, str],
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "slimtrack", "events", "--follow"],
        env={**environment, "SLIMTRACK_EVENTS": "on"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        assert process.stdout
        assert "Listening" in process.stderr.readline()
        order = caller.place()
        FanOut(pool, broker=broker, wanted=threading.Event()).publish_due()
        shown: dict[str, Any] = json.loads(process.stdout.readline())
        assert shown["id"] == f"{order['id']}:1"
    finally:
        process.terminate()
        process.communicate()


def test_the_asyncapi_document_describes_what_is_published() -> None:
    document = yaml.safe_load(ASYNCAPI.read_text())
    schemas = document["components"]["schemas"]
    exchange = document["channels"]["events"]["bindings"]["amqp"]["exchange"]
    assert exchange["name"] == EVENT_EXCHANGE
    assert (exchange["type"], exchange["durable"]) == ("topic", True)
    statuses = document["channels"]["events"]["parameters"]["status"]["enum"]
    assert statuses == [str(status) for status in Status]
    for struct in (CloudEvent, OrderEvent, Order):
        assert set(schemas[struct.__name__]["properties"]) == set(struct.__struct_fields__)


@contextmanager
def publisher(environment: dict[str, str], **settings: str) -> Iterator[list[str]]:
    """A publisher's process; what it has written so far."""
    lines: list[str] = []
    supervisor = Supervisor(on_line=lambda _, line: lines.append(line))
    try:
        supervisor.start([plan_publisher({**environment, **settings})])
        yield lines
    finally:
        supervisor.stop()


def test_rows_of_a_process_with_events_on_are_published_by_a_publisher_with_events_off(
    caller: Caller,
    channel: BlockingChannel,
    connection: psycopg.Connection,
    environment: dict[str, str],
) -> None:
    ids = {f"{caller.place()['id']}:1" for _ in range(3)}
    with bound(channel) as queue, publisher(environment, SLIMTRACK_EVENTS="off") as lines:
        wait_until(lambda: fan_out_rows(connection) == 0, timeout=15)
        ids.add(f"{caller.place()['id']}:1")
        wait_until(lambda: fan_out_rows(connection) == 0, timeout=15)
        assert {properties.message_id for properties, _ in take_all(channel, queue)} == ids
    assert any("events.left" in line for line in lines)


def test_what_is_left_waits_while_a_server_is_away(
    caller: Caller,
    pool: ConnectionPool,
    connection: psycopg.Connection,
    broker: ConfirmedPublisher,
    amqp_url: str,
) -> None:
    caller.place()

    def open_broker(_on_ready: object) -> ConfirmedPublisher:
        gone = ConfirmedPublisher(amqp_url, exchange=EVENT_EXCHANGE, on_ready=lambda: None)
        gone.close()
        return gone

    assert publish_left(pool, broker=broker, open_broker=open_broker) == 0
    assert fan_out_rows(connection) == 1


def test_events_are_published_as_soon_as_the_broker_is_there(
    caller: Caller,
    proxy: Proxy,
    channel: BlockingChannel,
    connection: psycopg.Connection,
    environment: dict[str, str],
) -> None:
    slow = []
    for _ in range(3):
        proxy.refuse()
        with (
            bound(channel),
            publisher(environment, SLIMTRACK_EVENTS="on", AMQP_URL=proxy.url) as lines,
        ):
            caller.place()
            # Long enough for every wake-up that the row itself, or the start, may have caused.
            time.sleep(0.5)
            proxy.accept()
            wait_until(lambda: any("broker.connected" in line for line in lines))
            started = time.monotonic()
            wait_until(lambda: fan_out_rows(connection) == 0)
            slow.append(time.monotonic() - started)
    assert max(slow) < 1
