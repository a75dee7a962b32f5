"""Measures a peer as SlimTrack is measured: whole orders per second."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import pika
import psycopg

from benchmarks.peers import work
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

#: Seconds until a measure has failed.
_LONGEST: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library, and how it is run best on two cores."""

    #: Has the tasks, and ``send``, which enqueues the first stage of every order.
    module: str
    #: The command of each of its workers, for ``python -m``.
    workers: tuple[tuple[str, ...], ...]
    #: Transactions that all workers together have open at once.
    concurrency: int
    #: What it leaves in RabbitMQ.
    queues: tuple[str, ...] = ()


#: Celery recommends its prefork pool, but every form of it was slower: 2, 4, 8, 12 or 16 processes,
#: two workers with 4 or 8, 1 or 16 messages for each, a queue for each stage. So were 4, 8 or
#: 16 threads in one worker, and 4 or 8 in two.
_CELERY: Final = Peer(
    module="benchmarks.peers.celery_orders",
    workers=tuple(
        (
            *("celery", "--app", "benchmarks.peers.celery_orders", "worker"),
            *("--hostname", f"{number}@%h", "--loglevel", "WARNING"),
            *("--pool", "threads", "--concurrency", "16", "--prefetch-multiplier", "4"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        )
        for number in (1, 2)
    ),
    concurrency=32,
    queues=("peers.celery",),
)

#: Slower: one process with 8, 16 or 32 threads, three with 16, two with 4, 8 or 16. About the
#: same: two with 32; with 16, 64 or 128 messages in hand instead of two per thread.
_DRAMATIQ: Final = Peer(
    module="benchmarks.peers.dramatiq_orders",
    workers=(
        ("dramatiq", "benchmarks.peers.dramatiq_orders", "--processes", "2", "--threads", "24"),
    ),
    concurrency=48,
    queues=("peers.dramatiq", "peers.dramatiq.DQ", "peers.dramatiq.XQ"),
)

#: Slower: one worker, connections that are asked before they are lent, transactions around single
#: statements. About the same: 3 or 4 workers, 3, 10 or 20 jobs at once.
_PROCRASTINATE: Final = Peer(
    module="benchmarks.peers.procrastinate_orders",
    workers=2
    * (
        (
            *("procrastinate", "--app", "benchmarks.peers.procrastinate_orders.app"),
            *("--log-level", "warning"),
            *("worker", "--concurrency", "5", "--delete-jobs", "successful"),
        ),
    ),
    concurrency=10,
)

PEERS: Final[Mapping[str, Peer]] = MappingProxyType(
    {"Celery": _CELERY, "Dramatiq": _DRAMATIQ, "Procrastinate": _PROCRASTINATE}
)


def measure(peer: Peer, *, database_url: str, amqp_url: str, orders: int) -> float:
    """Return whole orders per second, from a full queue to the last delivery.

    Every worker runs already, with as many orders in hand as it works on at once, and waits for
    the table of orders; the clock starts when that is unlocked. Nothing is left in the servers.

    Raises:
        PeerError: not every order was delivered with all its events.
        StackError: a worker did not start.
    """
    url = work.peers_url(database_url)
    environment = {**os.environ, "DATABASE_URL": url, "AMQP_URL": amqp_url}
    supervisor = Supervisor(on_line=lambda *_: None)
    with psycopg.connect(url, autocommit=True) as database:
        try:
            _clean_up(peer, database, amqp_url)
            work.make_tables(database)
            work.place(database, orders)
            _send(peer, environment)
            # What was put off until now shall not be paid for in the measure.
            database.execute("CHECKPOINT")
            with _locked_orders(url):
                supervisor.start(_plan(peer, environment, database))
            started = time.perf_counter()
            _wait_until_done(database)
            seconds = time.perf_counter() - started
            work.check(database, orders)
        finally:
            supervisor.stop()
            _clean_up(peer, database, amqp_url)
    return orders / seconds


def _send(peer: Peer, environment: Mapping[str, str]) -> None:
    # In a process of its own: a peer's module has a broker from when it is imported.
    subprocess.run(  # noqa: S603 - the module is one of ours
        (sys.executable, "-c", f"from {peer.module} import send; send()"),
        env=environment,
        check=True,
    )


def _plan(
    peer: Peer, environment: Mapping[str, str], database: psycopg.Connection[Any]
) -> list[Service]:
    def all_wait() -> bool:
        row = database.execute(
            "SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass AND NOT granted"
        ).fetchone()
        return row == (peer.concurrency,)

    return [
        Service(
            name=f"{command[0]}-{number}",
            command=(sys.executable, "-m", *command),
            ready=all_wait,
            env=environment,
        )
        for number, command in enumerate(peer.workers, 1)
    ]


@contextmanager
def _locked_orders(url: str) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        yield


def _wait_until_done(database: psycopg.Connection[Any]) -> None:
    deadline = time.perf_counter() + _LONGEST
    while not work.is_done(database):
        if time.perf_counter() > deadline:
            raise work.PeerError(f"Orders are still on their way after {_LONGEST:g} s.")
        time.sleep(0.05)


def _clean_up(peer: Peer, database: psycopg.Connection[Any], amqp_url: str) -> None:
    work.drop_tables(database)
    if peer.queues:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            channel = connection.channel()
            for queue in peer.queues:
                channel.queue_delete(queue)
