"""Publishes messages as SlimTrack does, without the outbox."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from benchmarks.figures import FaultError
from slimtrack.broker.frames import Outgoing
from slimtrack.broker.publishing import ConfirmedPublisher, Outcome


@contextmanager
def open_publisher(amqp_url: str, *, queue_name: str) -> Iterator[ConfirmedPublisher]:
    """Open a publisher that is ready, and whose queue is declared."""
    publisher = ConfirmedPublisher(amqp_url, queue_names=[queue_name], on_ready=lambda: None)
    with closing(publisher):
        while not publisher.is_ready:
            time.sleep(0.01)
        yield publisher


def publish(publisher: ConfirmedPublisher, messages: Sequence[Outgoing]) -> float:
    """Publish messages; return the seconds until all were confirmed.

    Raises:
        FaultError: one was not.
    """
    began = time.perf_counter()
    if set(publisher.publish(messages, timeout=60)) != {Outcome.CONFIRMED}:
        raise FaultError("A message was not confirmed.")
    return time.perf_counter() - began
