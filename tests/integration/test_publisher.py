"""Publishing the outbox: real rows, a real RabbitMQ, and what comes between them."""

import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import Any

import dramatiq
import psycopg
import pytest
from observing import count_events, count_waiting, take_all, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from structlog.testing import capture_logs

from slimtrack.broker.publishing import ConfirmedPublisher
from slimtrack.domain.order import JOURNEY, NewOrder, Status, new_order_id
from slimtrack.outbox.publisher import PUBLISHER_SESSION, Publisher
from slimtrack.routing import BY_QUEUE, BY_STAGE, Schedule
from slimtrack.sql.outbox import claim_due_rows, mark_published
from slimtrack.sql.pool import OUTBOX_PLANS, conninfo, open_pool
from slimtrack.sql.wakeup import WakeUp, listen
from slimtrack.use_cases.tracking import Tracking

FIRST = "orders.processing"

#: Makes a publisher on an AMQP URL; keywords are its limits.
Open = Callable[..., Publisher]


@pytest.fixture
def open_publisher(database_url: str) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one(amqp_url: str, *, stage_bound: int = 2000, set_size: int = 100) -> Publisher:
            wanted = threading.Event()
            pool = open_pool(
                database_url,
                application_name="publisher",
                size=2,
                options={**OUTBOX_PLANS, **PUBLISHER_SESSION},
                timeout=5,
            )
            stack.enter_context(pool)
            broker = ConfirmedPublisher(amqp_url, queue_names=list(BY_QUEUE), on_ready=wanted.set)
            stack.enter_context(closing(broker))
            wait_until(lambda: broker.is_ready)
            return Publisher(
                pool, broker=broker, wanted=wanted, stage_bound=stage_bound, set_size=set_size
            )

        yield open_one


@contextmanager
def running(publisher: Publisher, *, database_url: str = "") -> Iterator[None]:
    """Run a publisher in its thread; with a database's URL, one that hears wake-ups."""
    stopping = threading.Event()
    threads = [threading.Thread(target=publisher.run, args=(stopping,))]
    if database_url:
        work = (database_url, publisher.wake_up, stopping)
        threads.append(threading.Thread(target=listen, args=work))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        publisher.wake_up()
        for thread in threads:
            thread.join(timeout=10)


def add_rows(
    connection: psycopg.Connection, count: int, *, stage: Status = Status.PROCESSING, due: float = 0
) -> list[int]:
    """Add rows that are due in ``due`` seconds, without orders; nobody is woken up."""
    rows = connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, available_at)"
        " SELECT %s, gen_random_uuid(), 1, now() + make_interval(secs => %s)"
        " FROM generate_series(1, %s) RETURNING id",
        (stage, due, count),
    )
    return [row_id for (row_id,) in rows]


def count_rows(connection: psycopg.Connection, condition: str) -> Any:
    query = f"SELECT count(*) FROM outbox WHERE {condition}"  # noqa: S608 - a test's own words
    return connection.execute(query).fetchone()[0]  # type: ignore[index]


def ids_in(bodies: list[tuple[Any, bytes]]) -> list[int]:
    return [row_id for _, body in bodies for row_id in dramatiq.Message.decode(body).args[0]]


def test_due_rows_travel_in_sets_of_their_stage_and_are_marked(
    open_publisher: Open, amqp_url: str, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url)
    due = {stage: add_rows(connection, 250, stage=stage) for stage in JOURNEY[:2]}
    later = add_rows(connection, 7, due=60)

    assert publisher.publish_due() == 500
    assert publisher.publish_due() == 0

    for stage, ids in due.items():
        route = BY_STAGE[stage]
        taken = take_all(channel, route.queue_name)
        decoded = [dramatiq.Message.decode(body) for _, body in taken]
        assert [len(message.args[0]) for message in decoded] == [100, 100, 50]
        assert sorted(ids_in(taken)) == ids
        for (properties, _), message in zip(taken, decoded, strict=True):
            assert message.queue_name == route.queue_name
            assert message.actor_name == route.actor_name
            assert (message.kwargs, message.options) == ({}, {})
            assert message.message_id == properties.message_id
    assert count_rows(connection, "published_at IS NOT NULL AND publications = 1") == 500
    assert connection.execute(
        "SELECT array_agg(id ORDER BY id) FROM outbox WHERE published_at IS NULL"
    ).fetchone() == (later,)


def test_rows_that_were_published_before_travel_apart(
    open_publisher: Open, amqp_url: str, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    ids = add_rows(connection, 5)
    connection.execute("UPDATE outbox SET publications = 1 WHERE id = ANY(%s)", (ids[:2],))

    open_publisher(amqp_url).publish_due()

    sets = [dramatiq.Message.decode(body).args[0] for _, body in take_all(channel, FIRST)]
    assert sets == [ids[2:], ids[:2]]


def test_no_more_rows_of_a_stage_are_in_flight_than_its_bound(
    open_publisher: Open, amqp_url: str, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url, stage_bound=150, set_size=50)
    add_rows(connection, 400)
    add_rows(connection, 60, stage=Status.DELIVERED)

    while publisher.publish_due():
        pass

    assert connection.execute(
        "SELECT stage, count(*) FROM outbox WHERE published_at IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall() == [("delivered", 60), ("processing", 150)]
    connection.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox"
        " WHERE stage = 'processing' AND published_at IS NOT NULL LIMIT 70)"
    )
    assert publisher.publish_due() == 70


def test_part_of_a_set_waits_while_two_sets_are_in_flight_and_goes_when_work_runs_out(
    open_publisher: Open, amqp_url: str, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url, set_size=10)
    in_flight = add_rows(connection, 20)
    assert publisher.publish_due() == 20
    part = add_rows(connection, 9)

    assert publisher.publish_due() == 0
    [filling] = add_rows(connection, 1)
    assert publisher.publish_due() == 10

    rest = add_rows(connection, 3)
    assert publisher.publish_due() == 0
    connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", ([*in_flight, *part[:1], filling],))
    assert publisher.publish_due() == len(rest)


def buffers(connection: psycopg.Connection) -> Any:
    """Buffers of the outbox touched so far."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    return connection.execute(
        "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read"
        " FROM pg_statio_user_tables WHERE relname = 'outbox'"
    ).fetchone()[0]  # type: ignore[index]


def test_a_claim_does_not_walk_past_what_an_old_transaction_keeps_from_vacuum(
    database_url: str, connection: psycopg.Connection
) -> None:
    info = conninfo(database_url, application_name="publisher", options=OUTBOX_PLANS)
    with (
        psycopg.connect(database_url) as old,
        psycopg.connect(info, autocommit=True) as claiming,
    ):
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM outbox")
        add_rows(connection, 20_000, due=-60)
        connection.execute("UPDATE outbox SET published_at = now() - interval '1 min'")
        connection.execute("DELETE FROM outbox")
        [row] = add_rows(connection, 1)

        before = buffers(claiming)
        first = claim_due_rows(claiming, bound=2000, set_size=100)
        between = buffers(claiming)
        second = claim_due_rows(claiming, bound=2000, set_size=100, floors=first.floors)
        after = buffers(claiming)

    assert [each.id for each in first.rows] == [each.id for each in second.rows] == [row]
    assert after - between < 100 < between - before


def test_a_row_below_the_floor_is_published_when_the_floor_is_dropped(
    open_publisher: Open, amqp_url: str, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url)
    add_rows(connection, 1)
    assert publisher.publish_due() == 1
    add_rows(connection, 1, due=-60)
    assert publisher.publish_due() == 0

    wait_until(lambda: publisher.publish_due() == 1)


def test_two_publishers_publish_each_row_once(
    open_publisher: Open, amqp_url: str, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    publishers = [open_publisher(amqp_url, stage_bound=10_000, set_size=20) for _ in range(2)]
    ids = add_rows(connection, 3_000)
    together = threading.Barrier(2)

    def publish_all(publisher: Publisher) -> int:
        together.wait()
        return sum(iter(publisher.publish_due, 0))

    with ThreadPoolExecutor(2) as threads:
        counts = list(threads.map(publish_all, publishers))

    assert sum(counts) == 3_000
    assert min(counts) >= 300, counts
    assert Counter(ids_in(take_all(channel, FIRST))) == Counter(ids)
    assert count_rows(connection, "publications <> 1") == 0


def test_what_is_not_confirmed_stays_unpublished_and_is_published_later(
    open_publisher: Open, proxy: Proxy, channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(proxy.url)
    ids = add_rows(connection, 300)
    proxy.hold(answers_only=True)
    with ThreadPoolExecutor(1) as threads:
        confirmed = threads.submit(publisher.publish_due)
        wait_until(lambda: count_waiting(channel, FIRST) == 3)
        proxy.cut()
        assert confirmed.result() == 0
    assert count_rows(connection, "published_at IS NOT NULL OR publications > 0") == 0
    take_all(channel, FIRST)
    proxy.release()

    with running(publisher):
        wait_until(lambda: count_rows(connection, "published_at IS NOT NULL") == 300)

    assert sorted(ids_in(take_all(channel, FIRST))) == ids


def test_rows_wait_for_a_broker_that_is_away_and_go_when_it_is_back(
    open_publisher: Open, proxy: Proxy, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(proxy.url)
    with capture_logs() as logs, running(publisher):
        proxy.refuse()
        wait_until(lambda: count_events(logs, "broker.disconnected") >= 2)
        add_rows(connection, 10)
        publisher.wake_up()
        # Until the broker has been tried in vain once more, from the beginning.
        tried = count_events(logs, "broker.disconnected")
        wait_until(lambda: count_events(logs, "broker.disconnected") >= tried + 2)
        assert count_rows(connection, "published_at IS NULL AND publications = 0") == 10

        proxy.accept()
        healed = time.monotonic()
        wait_until(lambda: count_rows(connection, "published_at IS NOT NULL") == 10)

    assert time.monotonic() - healed < 2


def test_rows_of_a_publisher_killed_before_its_mark_are_free_at_once(
    environment: dict[str, str],
    proxy: Proxy,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    locked = "SELECT count(*) FROM (SELECT FROM outbox FOR UPDATE SKIP LOCKED) AS free"
    process = subprocess.Popen(
        [sys.executable, "-m", "slimtrack.publisher"],
        env={**environment, "AMQP_URL": proxy.url},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: publishes(connection, channel))
        proxy.hold(answers_only=True)
        add_rows(connection, 250)
        connection.execute("NOTIFY slimtrack_outbox")
        wait_until(lambda: count_waiting(channel, FIRST) == 3)
        assert connection.execute(locked).fetchone() == (0,)
    finally:
        process.kill()
        process.wait()
    killed = time.monotonic()

    wait_until(lambda: connection.execute(locked).fetchone() == (250,))

    assert time.monotonic() - killed < 1
    assert count_rows(connection, "published_at IS NULL AND publications = 0") == 250


def publishes(connection: psycopg.Connection, channel: BlockingChannel) -> bool:
    """Tell whether a new publisher process works; leaves nothing behind."""
    if not count_rows(connection, "true"):
        add_rows(connection, 1)
    if not count_rows(connection, "published_at IS NOT NULL"):
        return False
    take_all(channel, FIRST)
    connection.execute("DELETE FROM outbox")
    return True


@contextmanager
def placing(database_url: str, *, delay: float, waking: bool) -> Iterator[Tracking]:
    with (
        open_pool(database_url, application_name="api", size=1, options={}, timeout=5) as pool,
        closing(WakeUp(database_url)) as wake_up,
    ):
        yield Tracking(
            pool,
            wake_up=wake_up.send if waking else lambda: None,
            schedule=Schedule(dict.fromkeys(JOURNEY, delay)),
        )


def place(tracking: Tracking) -> None:
    tracking.place(NewOrder(id=new_order_id(), description="A parcel"))


def test_a_wake_up_brings_a_row_to_its_queue_at_once(
    open_publisher: Open, amqp_url: str, database_url: str, channel: BlockingChannel
) -> None:
    publisher = open_publisher(amqp_url)
    seconds: list[float] = []
    with (
        running(publisher, database_url=database_url),
        placing(database_url, delay=0, waking=True) as tracking,
    ):
        # Every message is consumed, every row stays: the stage must not look busy.
        deliveries = channel.consume(FIRST, auto_ack=True, inactivity_timeout=10)
        for _ in range(40):
            place(tracking)
            committed = time.perf_counter()
            assert next(deliveries)[0], "no message came"
            seconds.append(time.perf_counter() - committed)
            time.sleep(0.01)
        channel.cancel()
    p50, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20)[18]
    sys.stdout.write(f"commit to queue: p50 {p50 * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms\n")
    assert p50 < 1


def test_a_delayed_row_is_published_when_it_is_due_and_not_before(
    open_publisher: Open,
    amqp_url: str,
    database_url: str,
    channel: BlockingChannel,
    connection: psycopg.Connection,
) -> None:
    publisher = open_publisher(amqp_url)
    with (
        running(publisher, database_url=database_url),
        placing(database_url, delay=1.5, waking=True) as tracking,
    ):
        place(tracking)
        wait_until(lambda: count_waiting(channel, FIRST))
        assert connection.execute("SELECT now() >= available_at FROM outbox").fetchone() == (True,)
        wait_until(lambda: count_rows(connection, "published_at IS NOT NULL"))
    assert connection.execute(
        "SELECT available_at - created_at, published_at - available_at < '0.5 s' FROM outbox"
    ).fetchone() == (timedelta(seconds=1.5), True)


def test_rows_that_become_due_shortly_after_each_other_are_none_of_them_late(
    open_publisher: Open, amqp_url: str, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url)
    for number in range(60):
        add_rows(connection, 1, due=0.3 + number * 0.01)
    with running(publisher):
        wait_until(lambda: count_rows(connection, "published_at IS NULL") == 0)
    latest = connection.execute("SELECT max(published_at - available_at) FROM outbox").fetchone()
    assert latest
    assert latest[0].total_seconds() < 1


def test_a_mark_does_not_wait_for_the_disk_and_all_else_on_its_connection_does(
    connection: psycopg.Connection,
) -> None:
    ids = add_rows(connection, 1)
    waits = "SHOW synchronous_commit"

    with connection.transaction():
        assert connection.execute(waits).fetchone() == ("on",)
        mark_published(connection, ids)
        assert connection.execute(waits).fetchone() == ("off",)
    assert connection.execute(waits).fetchone() == ("on",)
    assert count_rows(connection, "published_at IS NOT NULL AND publications = 1") == 1


def test_lost_connections_are_replaced_after_the_first_failure(
    open_publisher: Open, amqp_url: str, connection: psycopg.Connection
) -> None:
    publisher = open_publisher(amqp_url)
    ours = (
        "FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'publisher'"
    )
    wait_until(lambda: connection.execute(f"SELECT count(*) {ours}").fetchone() == (2,))
    lost = connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {ours}").fetchall()
    assert lost == [(True,)] * 2
    add_rows(connection, 1)

    with capture_logs() as logs, running(publisher):
        wait_until(lambda: count_rows(connection, "published_at IS NOT NULL") == 1)

    assert [each["event"] for each in logs].count("database.unreachable") == 1
