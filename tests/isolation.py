"""Tests share servers, and nothing on them: a database each, and queues that are deleted before."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

import pika
import psycopg
from psycopg import sql

from slimtrack.broker.topology import dead_letter_queue
from slimtrack.routing import BY_STAGE

_numbers: Final = count(1)


@contextmanager
def own_database(server_url: str, template: str) -> Iterator[str]:
    """Copy a database under a new name; drop the copy at the end."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        yield server_url.rpartition("/")[0] + f"/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def delete_queues(amqp_url: str) -> None:
    """Delete all queues of ours, with what is in them."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connected:
        channel = connected.channel()
        for route in BY_STAGE.values():
            channel.queue_delete(route.queue_name)
            channel.queue_delete(dead_letter_queue(route.queue_name))
