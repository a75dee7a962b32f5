"""A subscriber of events, while the broker goes and comes back."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import pytest
from cloudevents.http import from_json
from private import Servers, private_servers
from system import System

from slimtrack.broker.topology import EVENT_EXCHANGE

ORDERS = 1_000
QUEUE = "kept by a subscriber"


@pytest.fixture
def own_servers() -> Iterator[Servers]:
    with private_servers() as servers:
        yield servers


def test_a_subscriber_gets_every_event_also_when_the_broker_is_restarted(
    own_servers: Servers, tmp_path: Path
) -> None:
    parameters = pika.URLParameters(own_servers.environment["AMQP_URL"])
    with pika.BlockingConnection(parameters) as broker:
        channel = broker.channel()
        channel.exchange_declare(EVENT_EXCHANGE, "topic", durable=True)
        channel.queue_declare(QUEUE, durable=True)
        channel.queue_bind(QUEUE, EVENT_EXCHANGE, "order.#")
    with System({**own_servers.environment, "SLIMTRACK_EVENTS": "on"}, tmp_path) as system:
        system.start(system.api(), system.publisher(), system.worker())
        load = system.load("heard", count=ORDERS, rate=300)
        system.wait_until(
            lambda: system.count("order_events") > ORDERS, what="events are published"
        )
        own_servers.rabbitmq.end(signal.SIGTERM)
        assert not load.is_done, "the fault came after the load"
        system.look_after(2)
        own_servers.rabbitmq.start()
        system.finish(load)
        findings = system.settle(timeout=90)
        assert findings.is_clean, findings
        assert any("broker.disconnected" in line for line in system.lines), "the broker never went"
        with system.connect() as database:
            rows = database.execute("SELECT order_id || ':' || sequence FROM order_events")
            expected = {row[0] for row in rows}

    heard: Counter[str] = Counter()
    with pika.BlockingConnection(parameters) as broker:
        for _method, _properties, body in broker.channel().consume(
            QUEUE, auto_ack=True, inactivity_timeout=1.0
        ):
            if body is None:
                break
            heard[from_json(body)["id"]] += 1
    print(f"{sum(heard.values())} messages for {len(expected)} events")  # noqa: T201
    assert len(expected) == 5 * ORDERS
    assert set(heard) == expected
