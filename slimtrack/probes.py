"""Whether the servers answer: quick probes that never raise."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

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
    parameters = pika.URLParameters(amqp_url)
    parameters.socket_timeout = parameters.stack_timeout = _TIMEOUT
    try:
        pika.BlockingConnection(parameters).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def count_messages(amqp_url: str, queue_names: Iterable[str]) -> int | None:
    """Return how many messages wait in some queues, or None where the broker does not answer."""
    count = 0
    parameters = pika.URLParameters(amqp_url)
    parameters.socket_timeout = parameters.stack_timeout = _TIMEOUT
    try:
        with pika.BlockingConnection(parameters) as connection:
            for name in queue_names:
                with suppress(pika.exceptions.ChannelClosedByBroker):  # there is no such queue
                    declared = connection.channel().queue_declare(name, passive=True)
                    count += declared.method.message_count
    except (pika.exceptions.AMQPError, OSError):
        return None
    return count


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
