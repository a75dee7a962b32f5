"""Looking at what processes do: until something is so, and what waits in a queue."""

import time
from collections.abc import Callable

from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties


def wait_until(condition: Callable[[], object], *, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.01)


def count_waiting(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def take_all(channel: BlockingChannel, queue: str) -> list[tuple[BasicProperties, bytes]]:
    """Take every message that waits now."""
    count = count_waiting(channel, queue)
    deliveries = channel.consume(queue, auto_ack=True)
    taken = [next(deliveries)[1:] for _ in range(count)]
    channel.cancel()
    return taken
