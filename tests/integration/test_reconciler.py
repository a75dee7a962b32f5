"""Making due again what RabbitMQ has lost, and only that."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from observing import count_waiting, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from psycopg_pool import ConnectionPool

from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.domain.order import Status
from slimtrack.outbox.publisher import PUBLISHER_SESSION, Publisher
from slimtrack.outbox.reconciler import Reconciler
from slimtrack.routing import BY_QUEUE
from slimtrack.sql.pool import OUTBOX_PLANS, open_pool

FIRST = "orders.processing"
Pool = ConnectionPool[psycopg.Connection[tuple[Any, ...]]]


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    options = {**OUTBOX_PLANS, **PUBLISHER_SESSION}
    with open_pool(
        database_url, application_name="publisher", size=2, options=options, timeout=5
    ) as opened:
        yield opened


@contextmanager
def connected(proxy: Proxy) -> Iterator[ConfirmedPublisher]:
    with closing(
        ConfirmedPublisher(proxy.url, queue_names=list(BY_QUEUE), on_ready=lambda: None)
    ) as opened:
        wait_until(lambda: opened.is_ready)
        yield opened


@pytest.fixture
def broker(proxy: Proxy) -> Iterator[ConfirmedPublisher]:
    with connected(proxy) as opened:
        yield opened


@pytest.fixture
def reconciler(pool: Pool, broker: ConfirmedPublisher) -> Reconciler:
    """One that has run before: to a new one its first connection is a disruption."""
    fresh = Reconciler(pool, broker=broker)
    assert fresh.reconcile() == 0
    return fresh


def add_rows(
    connection: psycopg.Connection, count: int, *, stage: Status = Status.PROCESSING
) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence)"
        " SELECT %s, gen_random_uuid(), 1 FROM generate_series(1, %s)",
        (stage, count),
    )


def publish(pool: Pool, broker: ConfirmedPublisher) -> None:
    publisher = Publisher(
        pool, broker=broker, wanted=threading.Event(), stage_bound=5000, set_size=100
    )
    while publisher.publish_due():
        pass


def backdate(connection: psycopg.Connection, seconds: float) -> None:
    connection.execute(
        "UPDATE outbox SET published_at = now() - make_interval(secs => %s)", (seconds,)
    )


def due(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL").fetchone()
    assert row
    return int(row[0])


def test_rows_whose_messages_are_gone_are_due_again_after_half_a_minute(
    reconciler: Reconciler,
    pool: Pool,
    broker: ConfirmedPublisher,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    add_rows(connection, 5)
    publish(pool, broker)
    channel.queue_purge(FIRST)

    backdate(connection, 29)
    assert reconciler.reconcile() == 0
    backdate(connection, 31)
    assert reconciler.reconcile() == 5

    assert due(connection) == 5
    assert connection.execute("SELECT DISTINCT publications, attempts FROM outbox").fetchall() == [
        (1, 0)
    ]


def test_each_publication_doubles_the_wait_up_to_ten_minutes(
    reconciler: Reconciler, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, published_at, publications)"
        " SELECT 'processing', gen_random_uuid(), 1, now() - make_interval(secs => age), count"
        " FROM (VALUES (59, 2), (61, 2), (239, 4), (241, 4), (599, 50), (601, 50)) t (age, count)"
    )

    assert reconciler.reconcile() == 3

    assert connection.execute(
        "SELECT publications FROM outbox WHERE published_at IS NULL ORDER BY 1"
    ).fetchall() == [(2,), (4,), (50,)]


def test_a_queue_that_holds_messages_protects_its_rows_for_ten_minutes(
    reconciler: Reconciler,
    pool: Pool,
    broker: ConfirmedPublisher,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    add_rows(connection, 5)
    add_rows(connection, 3, stage=Status.DELIVERED)
    publish(pool, broker)
    channel.queue_purge("orders.delivered")

    backdate(connection, 590)
    assert reconciler.reconcile() == 3
    assert connection.execute(
        "SELECT DISTINCT stage FROM outbox WHERE published_at IS NULL"
    ).fetchall() == [("delivered",)]

    backdate(connection, 601)
    assert count_waiting(channel, FIRST) == 1
    assert reconciler.reconcile() == 8


def test_after_a_disruption_what_is_gone_is_due_at_once_and_what_is_queued_is_not(  # noqa: PLR0917 - by name
    reconciler: Reconciler,
    pool: Pool,
    broker: ConfirmedPublisher,
    proxy: Proxy,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    add_rows(connection, 5)
    add_rows(connection, 3, stage=Status.DELIVERED)
    publish(pool, broker)
    assert reconciler.reconcile() == 0
    before = broker.disruptions
    channel.queue_delete(FIRST)
    proxy.cut()
    wait_until(lambda: broker.disruptions > before)

    assert reconciler.reconcile() == 5
    assert connection.execute(
        "SELECT DISTINCT stage FROM outbox WHERE published_at IS NULL"
    ).fetchall() == [("processing",)]
    # Only once: what is published from now on is not lost.
    publish(pool, broker)
    assert due(connection) == 0
    channel.queue_purge(FIRST)
    assert reconciler.reconcile() == 0


def test_what_was_published_since_a_disruption_is_not_lost(
    pool: Pool, broker: ConfirmedPublisher, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    """An actor has it: who takes its row from it has it worked on twice."""
    add_rows(connection, 5)
    publish(pool, broker)
    channel.queue_purge(FIRST)

    assert Reconciler(pool, broker=broker).reconcile() == 0


def test_what_is_published_while_many_rows_become_due_again_is_not_lost(
    pool: Pool, proxy: Proxy, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    add_rows(connection, 1500)
    with connected(proxy) as former:
        publish(pool, former)
    channel.queue_purge(FIRST)
    connection.execute(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END';"
        "CREATE TRIGGER linger AFTER UPDATE ON outbox EXECUTE FUNCTION linger()"
    )

    with connected(proxy) as broker:
        connection.execute(
            "INSERT INTO outbox (stage, order_id, from_sequence, published_at, publications)"
            " SELECT 'processing', gen_random_uuid(), 1, now(), 1 FROM generate_series(1, 5)"
        )
        assert Reconciler(pool, broker=broker).reconcile() == 1500


def test_a_new_process_finds_what_was_lost_while_none_ran(
    pool: Pool, proxy: Proxy, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    add_rows(connection, 5)
    with connected(proxy) as former:
        publish(pool, former)
    channel.queue_purge(FIRST)

    with connected(proxy) as broker:
        assert Reconciler(pool, broker=broker).reconcile() == 5


def test_rows_that_an_actor_works_on_are_skipped(
    reconciler: Reconciler, pool: Pool, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, published_at, publications)"
        " SELECT 'processing', gen_random_uuid(), 1, now() - interval '1 h', 1"
        " FROM generate_series(1, 2500)"
    )
    with pool.connection() as actor, actor.transaction():
        [(locked,)] = actor.execute("DELETE FROM outbox WHERE id % 500 = 0 RETURNING id").fetchmany(
            1
        )
        assert reconciler.reconcile() == 2495
        assert connection.execute(
            "SELECT published_at IS NULL FROM outbox WHERE id = %s", (locked,)
        ).fetchone() == (False,)
    assert due(connection) == 2495


def test_while_the_broker_is_away_nothing_is_due_again(
    reconciler: Reconciler, broker: ConfirmedPublisher, proxy: Proxy, connection: psycopg.Connection
) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, published_at, publications)"
        " VALUES ('processing', gen_random_uuid(), 1, now() - interval '1 h', 1)"
    )
    proxy.hold(answers_only=True)
    assert broker.is_ready
    assert reconciler.reconcile() == 0
    proxy.refuse()
    wait_until(lambda: not broker.is_ready)
    assert reconciler.reconcile() == 0
    assert due(connection) == 0

    proxy.release()
    proxy.accept()
    wait_until(lambda: broker.is_ready)
    assert reconciler.reconcile() == 1
