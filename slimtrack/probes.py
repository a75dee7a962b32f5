"""Whether the servers answer: quick probes that never raise."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import pika
import pika.exceptions
import psycopg
from psycopg_pool import ConnectionPool

#: Seconds that a server has to answer.
_TIMEOUT = 1.0


def postgresql_answers(pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]]) -> bool:
    """Run an empty statement."""
    try:
        with pool.connection(timeout=_TIMEOUT) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def rabbitmq_answers(amqp_url: str) -> bool:
    """Log in and out."""
    try:
        pika.BlockingConnection(_quick(amqp_url)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def count_messages(amqp_url: str, queue_names: Iterable[str]) -> int | None:
    """Return how many messages wait in some queues, or None where the broker does not answer."""
    depths = measure_queues(amqp_url, queue_names)
    return None if depths is None else sum(each.messages for each in depths.values())


class QueueDepth(NamedTuple):
    """How many messages wait in a queue, and how many consumers take from it."""

    messages: int
    consumers: int


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
    except (pika.exceptions.AMQPError, OSError):
        return None
    return depths


def rabbitmq_version(amqp_url: str) -> str | None:
    """Return the version of RabbitMQ, None where it does not answer."""
    try:
        with pika.BlockingConnection(_quick(amqp_url)) as connection:
            # What it says of itself when it is connected to; pika keeps it and has no name for it.
            said = connection._impl.server_properties  # noqa: SLF001 - as above
            return str((said or {}).get("version", ""))
    except (pika.exceptions.AMQPError, OSError):
        return None


def redis_version(redis_url: str) -> str | None:
    """Return the version of Redis, None where it does not answer."""
    import redis  # noqa: PLC0415 - as below

    try:
        with redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
        ) as client:
            return str(client.info("server").get("redis_version", ""))
    except redis.RedisError:
        return None


def redis_answers(redis_url: str) -> bool:
    """Send a PING."""
    # Takes longer to import than all else that a command needs, and only the API asks.
    import redis  # noqa: PLC0415 - as above

    try:
        with redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
        ) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _quick(amqp_url: str) -> pika.URLParameters:
    parameters = pika.URLParameters(amqp_url)
    parameters.socket_timeout = parameters.stack_timeout = _TIMEOUT
    return parameters
