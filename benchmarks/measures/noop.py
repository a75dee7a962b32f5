"""B5 and B7: Dramatiq itself, with an actor that does nothing.

This module is also what its worker processes import: ``dramatiq benchmarks.measures.noop:setup``.
"""

import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dramatiq
import pika

from benchmarks.figures import Figures, Scale
from benchmarks.publishing import open_publisher, publish
from benchmarks.system import System, wait_for
from slimtrack.broker.broker import SlimBroker
from slimtrack.broker.messages import SetMessage
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

_QUEUE: Final = "bench.noop"
_ACTOR: Final = "do_nothing"
#: Where each message reports to: a datagram socket in the abstract namespace.
_REPORTS: Final = "BENCH_REPORTS"
_PROCESSES: Final = 2
_RATE: Final = 50.0


def setup() -> None:
    """Make the broker and the actor of a worker process."""
    broker = SlimBroker(os.environ["AMQP_URL"], middleware=[])
    reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reports.connect(f"\0{os.environ[_REPORTS]}")

    def do_nothing(ids: list[int]) -> None:
        del ids
        reports.send(repr(time.monotonic()).encode())

    dramatiq.actor(actor_name=_ACTOR, queue_name=_QUEUE, broker=broker)(do_nothing)
    dramatiq.set_broker(broker)


def actor_that_does_nothing(system: System, scale: Scale) -> Figures:
    """B5: messages a second through it, all of them queued before; B7: from publishing to it."""
    amqp_url = system.environment["AMQP_URL"]
    with (
        _workers(system) as reports,
        open_publisher(amqp_url, queue_name=_QUEUE) as publisher,
    ):
        publish(publisher, _messages(1))
        reports.recv(64)  # all is connected
        count = scale.orders
        started = time.monotonic()
        publish(publisher, _messages(count))
        last = max(float(reports.recv(64)) for _ in range(count))
        delays = []
        begin = time.monotonic() + 0.1
        for number in range(int(scale.seconds * _RATE)):
            wait_for(begin + number / _RATE - time.monotonic())
            sent = time.monotonic()
            publish(publisher, _messages(1))
            delays.append(float(reports.recv(64)) - sent)
    return {
        "B5 no-op actor/s": count / (last - started),
        "B7 publish to no-op actor, ms": 1000 * statistics.median(delays),
    }


def _messages(count: int) -> list[SetMessage]:
    return [SetMessage(queue_name=_QUEUE, actor_name=_ACTOR, row_ids=[1]) for _ in range(count)]


@contextmanager
def _workers(system: System) -> Iterator[socket.socket]:
    """Run the worker processes; give what they report to."""
    name = f"slimtrack-bench-{os.getpid()}"
    supervisor = Supervisor(on_line=lambda *_: None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports:
        reports.bind(f"\0{name}")
        reports.settimeout(60)
        try:
            supervisor.start(
                [
                    Service(
                        name="noop",
                        command=(
                            *(sys.executable, "-m", "dramatiq", f"{__name__}:setup"),
                            *("--processes", str(_PROCESSES), "--threads", "2", "--skip-logging"),
                        ),
                        ready=lambda: True,
                        env={**system.environment, _REPORTS: name},
                    )
                ]
            )
            yield reports
        finally:
            supervisor.stop()
            with pika.BlockingConnection(
                pika.URLParameters(system.environment["AMQP_URL"])
            ) as broker:
                for suffix in ("", ".DQ", ".XQ"):
                    broker.channel().queue_delete(_QUEUE + suffix)
