"""Whether RabbitMQ answers, and what it says of its queues: quick probes that never raise."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

import pika
import pika.exceptions

from slimtrack.broker.errors import BROKER_AWAY

#: Seconds that it has to answer until a connection is there.
_TIMEOUT: Final = 1.0
#: Seconds between its signs of life from then on; pika ends a connection without any after 12 s.
_HEARTBEAT: Final = 1


class QueueDepth(NamedTuple):
    """How many messages wait in a queue, and how many consumers take from it."""

    messages: int
    consumers: int


def rabbitmq_answers(amqp_url: str) -> bool:
    """Log in and out."""
    try:
        pika.BlockingConnection(_quick(amqp_url)).close()
    except BROKER_AWAY:
        return False
    return True


def count_messages(amqp_url: str, queue_names: Iterable[str]) -> int | None:
    """Return how many messages wait in some queues, or None where the broker does not answer."""
    depths = measure_queues(amqp_url, queue_names)
    return None if depths is None else sum(each.messages for each in depths.values())


def measure_queues(amqp_url: str, queue_names: Iterable[str]) -> dict[str, QueueDepth] | None:
    """Return the depth of each queue that there is; None where the broker does not answer."""
    depths: dict[str, QueueDepth] = {}
    try:
        with pika.BlockingConnection(_quick(amqp_url)) as connection:
            channel = connection.channel()
            for name in queue_names:
                if channel.is_closed:
                    channel = connection.channel()
                with suppress(pika.exceptions.ChannelClosedByBroker):  # there is no such queue
                    declared = channel.queue_declare(name, passive=True).method
                    depths[name] = QueueDepth(declared.message_count, declared.consumer_count)
    except BROKER_AWAY:
        return None
    return depths


def rabbitmq_version(amqp_url: str) -> str | None:
    """Return the version of RabbitMQ, None where it does not answer."""
    try:
        with pika.BlockingConnection(_quick(amqp_url)) as connection:
            # What it says of itself when it is connected to; pika keeps it and has no name for it.
            said = connection._impl.server_properties  # noqa: SLF001 - as above
            return str((said or {}).get("version", ""))
    except BROKER_AWAY:
        return None


def _quick(amqp_url: str) -> pika.URLParameters:
    parameters = pika.URLParameters(amqp_url)
    parameters.socket_timeout = parameters.stack_timeout = _TIMEOUT
    parameters.heartbeat = _HEARTBEAT
    return parameters
