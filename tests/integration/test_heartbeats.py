"""What processes say of themselves in the database."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from observing import wait_until
from psycopg_pool import ConnectionPool

from slimtrack import __version__
from slimtrack.outbox.pruning import Pruning
from slimtrack.routing import BY_QUEUE
from slimtrack.sql.processes import Process
from slimtrack.use_cases import heartbeats
from slimtrack.use_cases.heartbeats import Heartbeat, Presence, is_alive


@pytest.fixture
def heartbeat(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heartbeat]:
    """The heartbeat of a worker that is in a hurry."""
    monkeypatch.setattr(heartbeats, "_INTERVAL", 0.05)
    with closing(Heartbeat(database_url, kind="worker")) as made:
        yield made


@pytest.fixture
def presence(pool: ConnectionPool) -> Presence:
    return Presence(pool)


def seen(presence: Presence) -> Process:
    wait_until(presence.list)
    [found] = presence.list()
    return found


def test_a_process_says_what_it_is_and_takes_leave(
    heartbeat: Heartbeat, presence: Presence
) -> None:
    assert not any(presence.who_works().values())
    heartbeat.beat(["orders.processing"])
    found = seen(presence)
    assert (found.kind, found.queues) == ("worker", ["orders.processing"])
    assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
    assert found.version == __version__
    assert found.memory_bytes
    assert found.memory_bytes > 10_000_000
    assert found.started_at <= found.seen_at
    assert is_alive(found)
    assert presence.who_works() == {
        "publisher": False,
        **{queue: queue == "orders.processing" for queue in BY_QUEUE},
    }

    heartbeat.close()
    assert presence.list() == []


def test_no_sign_is_given_for_whoever_stands_still(
    heartbeat: Heartbeat, presence: Presence, connection: psycopg.Connection
) -> None:
    heartbeat.beat()
    first = seen(presence)
    time.sleep(0.3)  # many times as long as between two signs
    assert seen(presence).seen_at == first.seen_at
    connection.execute("UPDATE processes SET seen_at = seen_at - interval '14 s'")
    assert not is_alive(seen(presence))
    heartbeat.beat()
    wait_until(lambda: is_alive(seen(presence)))
    assert seen(presence).started_at == first.started_at


def test_a_lost_connection_is_made_again(
    heartbeat: Heartbeat, presence: Presence, connection: psycopg.Connection
) -> None:
    heartbeat.beat()
    first = seen(presence)
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'slimtrack heartbeat' AND datname = current_database()"
    ).fetchall()
    assert ended == [(True,)]

    def is_seen_again() -> bool:
        heartbeat.beat()
        return seen(presence).seen_at > first.seen_at

    wait_until(is_seen_again)


def test_who_went_without_a_word_is_forgotten_after_ten_minutes(
    heartbeat: Heartbeat,
    presence: Presence,
    pool: ConnectionPool,
    connection: psycopg.Connection,
) -> None:
    heartbeat.beat()
    seen(presence)
    for age, left in (("9 min", 1), ("11 min", 0)):
        connection.execute("UPDATE processes SET seen_at = now() - %s::interval", [age])
        Pruning(pool, answer_lifetime=60).prune()
        assert len(presence.list()) == left
