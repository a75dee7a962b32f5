"""What the probes of RabbitMQ say of one that hangs; one that is away refuses connections."""

import socket
import time
from collections.abc import Iterator, Mapping

import pytest
from proxy import Proxy

from slimtrack.broker.probes import (
    count_messages,
    measure_queues,
    rabbitmq_answers,
    rabbitmq_version,
)


@pytest.fixture
def silent() -> Iterator[str]:
    """Where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/"


def test_a_broker_that_takes_connections_and_says_nothing_does_not_answer(silent: str) -> None:
    began = time.monotonic()
    assert not rabbitmq_answers(silent)
    assert measure_queues(silent, ["orders.processing"]) is None
    assert count_messages(silent, ["orders.processing"]) is None
    assert rabbitmq_version(silent) is None
    assert time.monotonic() - began < 10


def test_a_broker_that_falls_silent_while_it_is_asked_does_not_answer(
    environment: Mapping[str, str],
) -> None:
    with Proxy(environment["AMQP_URL"]) as proxy:

        def names() -> Iterator[str]:
            yield "orders.processing"
            proxy.hold(answers_only=True)
            yield "orders.in_transit"

        assert measure_queues(proxy.url, ["orders.processing"]) is not None
        began = time.monotonic()
        assert measure_queues(proxy.url, names()) is None
        assert time.monotonic() - began < 20
