"""Looking at what processes do, waiting until something is so, and getting in their way."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties

from slimtrack.routing import Schedule
from slimtrack.use_cases.changing import Changes, Target


def wait_until(condition: Callable[[], object], *, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.01)


def count(connection: psycopg.Connection[Any], of: str) -> int:
    """Count the rows of a table, or of a table and a condition."""
    row = connection.execute(f"SELECT count(*) FROM {of}").fetchone()  # noqa: S608 - ours
    assert row
    return int(row[0])


def count_waiting(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def count_events(logs: Iterable[Mapping[str, Any]], event: str) -> int:
    """Count the lines of one event among those that ``capture_logs`` has kept."""
    return sum(line["event"] == event for line in logs)


def take_all(channel: BlockingChannel, queue: str) -> list[tuple[BasicProperties, bytes]]:
    """Take every message that waits now."""
    count = count_waiting(channel, queue)
    deliveries = channel.consume(queue, auto_ack=True)
    taken = [next(deliveries)[1:] for _ in range(count)]
    channel.cancel()
    return taken


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, or that its first thread has."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cancel_order(connection: psycopg.Connection[Any], order_id: UUID) -> None:
    """Cancel an order that is not on its way yet, as a caller does who wants it no more."""
    changes = Changes(connection, schedule=Schedule({}), fan_out=False, answer_lifetime=60)
    changes.cancel(Target(order=order_id, tenant_id=None), reason=None)
