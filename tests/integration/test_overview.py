"""What the overview knows: where orders are, what waits, what failed, and what is wrong."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from api_server import serve
from observing import wait_until
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.database import CALLER_SESSION
from slimtrack.domain.order import NewOrder, Status, new_order_ids
from slimtrack.domain.overview import StatusCount, Trouble, TroubleKind
from slimtrack.domain.retry import Failure, PermanentError, RetryPolicy
from slimtrack.outbox.pruning import Pruning
from slimtrack.outbox.samples import Samples
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.sql import processes
from slimtrack.sql.pool import OUTBOX_PLANS, open_pool
from slimtrack.sql.roles import Role
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.watching import LIMIT, Watching

Connection = psycopg.Connection[Any]

SERVERS: Mapping[str, Callable[[], bool]] = {"rabbitmq": lambda: True, "redis": lambda: True}
RETRY = RetryPolicy(max_retries=3, min_backoff=60, max_backoff=60)
NO_WORKERS = [Trouble(TroubleKind.WORKER_AWAY, queue) for queue in BY_QUEUE]


@pytest.fixture
def as_role(settings: Settings) -> Iterator[Callable[[Role, Mapping[str, str]], ConnectionPool]]:
    """Opens pools with the rights of a role."""
    opened = []

    def open_as(role: Role, session: Mapping[str, str]) -> ConnectionPool:
        options = {**session, "role": role}
        url = settings.database_url
        opened.append(open_pool(url, application_name="test", size=1, options=options, timeout=5))
        return opened[-1]

    yield open_as
    for each in opened:
        each.close()


@pytest.fixture
def watching(as_role: Callable[..., ConnectionPool]) -> Watching:
    return Watching(as_role(Role.API, CALLER_SESSION), servers=SERVERS)


@pytest.fixture
def samples(as_role: Callable[..., ConnectionPool]) -> Samples:
    return Samples(as_role(Role.PUBLISHER, OUTBOX_PLANS))


def place(tracking: Tracking, number: int) -> list[UUID]:
    ids = new_order_ids(number)
    tracking.place_many([NewOrder(id=each, description="A parcel") for each in ids])
    return ids


def rows_of(connection: Connection, orders: list[UUID]) -> list[int]:
    found = connection.execute("SELECT id FROM outbox WHERE order_id = ANY(%s)", (orders,))
    return [row for (row,) in found]


def note(connection: Connection, kind: str, *queues: str) -> None:
    processes.note_process(
        connection,
        uuid4(),
        kind=kind,
        host="here",
        pid=1,
        queues=queues,
        version="1",
        memory_bytes=None,
        age=0,
    )


def note_all(connection: Connection) -> None:
    for kind in ("api", "publisher"):
        note(connection, kind)
    note(connection, "worker", *BY_QUEUE)


def test_a_sample_says_how_often_each_status_was_reached_and_how_long_it_took(
    samples: Samples, watching: Watching, tracking: Tracking, connection: Connection
) -> None:
    orders = place(tracking, 5)
    tracking.advance(Status.PROCESSING, rows_of(connection, orders[:3]))
    connection.execute("UPDATE outbox SET available_at = now() - interval '90 s'")
    samples.stuck = 2
    samples.take()
    [sample] = watching.samples(seconds=60)
    assert set(sample.statuses) == {Status.RECEIVED, Status.PROCESSING}
    assert sample.statuses[Status.RECEIVED].rate == pytest.approx(0.5)
    assert sample.statuses[Status.RECEIVED].p50 is None
    moves = sample.statuses[Status.PROCESSING]
    assert moves.rate == pytest.approx(0.3)
    assert moves.p50 is not None
    assert moves.p90 is not None
    assert 0 <= moves.p50 <= moves.p90 < 5
    assert 90 < sample.oldest_due < 100
    assert (sample.dead_letters, sample.stuck) == (0, 2)


def test_however_many_publishers_there_are_one_sample_is_kept_and_for_a_day(
    samples: Samples, pool: ConnectionPool, watching: Watching, connection: Connection
) -> None:
    connection.execute(
        "INSERT INTO samples SELECT date_bin('10 s', now(), 'epoch') + n * interval '10 s', 0, 0,"
        " NULL, '{}' FROM generate_series(-8700, 1) AS n"
    )
    for _ in range(3):
        samples.take()
    Samples(pool).take()
    assert connection.execute("SELECT count(*) FROM samples").fetchone() == (8702,)
    Pruning(pool, answer_lifetime=60).prune()
    [kept] = connection.execute("SELECT count(*) FROM samples WHERE taken_at <= now()").fetchall()
    assert kept[0] in {8640, 8641}
    assert len(watching.samples(seconds=3600)) in {361, 362}


def test_many_orders_are_told_from_the_last_thousand_that_changed(
    samples: Samples, watching: Watching, tracking: Tracking, connection: Connection
) -> None:
    for _ in range(3):
        tracking.advance(Status.PROCESSING, rows_of(connection, place(tracking, 1_000)))
    samples.take()
    [sample] = watching.samples(seconds=60)
    # The last thousand took less than ten seconds.
    assert sample.statuses[Status.PROCESSING].rate > 200


def test_an_overview_says_where_orders_and_rows_are(
    watching: Watching, tracking: Tracking, retrying: Retrying, connection: Connection
) -> None:
    note_all(connection)
    orders = place(tracking, 6)
    row, *moved = rows_of(connection, orders[:3])
    tracking.advance(Status.PROCESSING, moved)
    retrying.settle(Status.PROCESSING, [Failure(ids=[row], error=ValueError("no"))], RETRY)
    [in_flight] = rows_of(connection, orders[3:4])
    connection.execute("UPDATE outbox SET published_at = now() WHERE id = %s", (in_flight,))

    seen = watching.look()
    assert seen.troubles == []
    assert seen.processes == {"api": 1, "publisher": 1, "worker": 1}
    assert set(seen.statuses) == set(Status)
    assert seen.statuses[Status.RECEIVED] == StatusCount(4, None)
    assert seen.statuses[Status.PROCESSING] == StatusCount(2, None)
    assert seen.statuses[Status.DELIVERED] == StatusCount(0, None)
    load = seen.stages[Status.PROCESSING]
    assert (load.waiting, load.due, load.retries, load.in_flight) == (1, 2, 1, 1)
    assert 0 <= load.oldest_due < 30
    assert seen.stages[Status.IN_TRANSIT].due == 2
    assert seen.failures == []
    assert seen.sample is None


def test_failures_of_one_cause_are_together_and_the_latest_comes_first(
    watching: Watching, tracking: Tracking, retrying: Retrying, connection: Connection
) -> None:
    note_all(connection)
    orders = place(tracking, 4)
    for error, some in ((PermanentError("bad label"), orders[:3]), (KeyError("x"), orders[3:])):
        policy = RetryPolicy(max_retries=0, min_backoff=0, max_backoff=0)
        failure = Failure(ids=rows_of(connection, some), error=error)
        retrying.settle(Status.PROCESSING, [failure], policy)
    connection.execute(
        "UPDATE dead_letters SET discarded_at = now(), discard_reason = 'no use'"
        " WHERE order_id = %s",
        (orders[0],),
    )

    seen = watching.look()
    assert seen.troubles == [Trouble(TroubleKind.DEAD_LETTERS, figure=3)]
    assert seen.dead_letters == {"processing": 3}
    assert [(each.error_type, each.letters) for each in seen.failures] == [
        ("KeyError", 1),
        ("PermanentError", 2),
    ]
    assert seen.failures[0].stage is Status.PROCESSING
    assert seen.failures[0].order_id == orders[3]
    assert seen.failures[0].tracking_code == tracking.get(orders[3]).tracking_code
    assert seen.failures[1].order_id in orders[1:3]


def test_what_is_wrong_is_said_the_worst_first(
    as_role: Callable[..., ConnectionPool],
    samples: Samples,
    tracking: Tracking,
    connection: Connection,
) -> None:
    place(tracking, 1)
    connection.execute("UPDATE outbox SET available_at = now() - interval '90 s'")
    samples.stuck = 1
    samples.take()
    away = Watching(
        as_role(Role.API, CALLER_SESSION),
        servers={"rabbitmq": lambda: False, "redis": lambda: False},
    )
    seen = away.look().troubles
    assert [each.kind for each in seen] == [
        TroubleKind.RABBITMQ_AWAY,
        TroubleKind.PUBLISHER_AWAY,
        *[TroubleKind.WORKER_AWAY] * len(BY_QUEUE),
        TroubleKind.ROWS_WAIT,
        TroubleKind.ORDERS_STUCK,
        TroubleKind.REDIS_AWAY,
    ]
    [late] = [each for each in seen if each.kind is TroubleKind.ROWS_WAIT]
    assert late.subject == Status.PROCESSING
    assert 90 < late.figure < 100


def test_a_server_that_hangs_does_not_hold_up_a_look(
    as_role: Callable[..., ConnectionPool], connection: Connection
) -> None:
    note_all(connection)
    hanging = threading.Event()
    servers = {"rabbitmq": lambda: hanging.wait(30) and False}
    watching = Watching(as_role(Role.API, CALLER_SESSION), servers=servers)
    assert watching.look().troubles == []
    assert not hanging.is_set()
    hanging.set()
    wait_until(lambda: watching.look().troubles == [Trouble(TroubleKind.RABBITMQ_AWAY)])


READ: LiteralString = """
SELECT sum(seq_scan)::integer, sum(idx_scan)::integer, sum(idx_tup_fetch + seq_tup_read)::integer
  FROM pg_stat_user_tables
 WHERE relname IN ('outbox', 'order_statuses', 'dead_letters', 'orders')
"""


def test_a_look_among_many_rows_reads_few_of_them_and_scans_no_table(
    settings: Settings, connection: Connection
) -> None:
    # As plans are that were made when there was nothing.
    connection.execute("ALTER TABLE order_statuses SET (autovacuum_enabled = off)")
    connection.execute("ALTER TABLE outbox SET (autovacuum_enabled = off)")
    connection.execute("VACUUM ANALYZE outbox, order_statuses, dead_letters")
    connection.execute(
        "INSERT INTO order_statuses (order_id, tenant_id, status)"
        " SELECT gen_random_uuid(), 1, 'delivered' FROM generate_series(1, 50000)"
    )
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, available_at)"
        " SELECT 'processing', gen_random_uuid(), 1, now() + n * interval '1 s'"
        " FROM generate_series(-40000, 40000) AS n"
    )
    connection.execute("SELECT pg_stat_force_next_flush()")
    scans, _, rows = counted(connection)
    url, options = settings.database_url, {**CALLER_SESSION, "role": Role.API}
    with open_pool(url, application_name="test", size=1, options=options, timeout=5) as pool:
        seen = Watching(pool, servers=SERVERS).look()
    assert seen.statuses[Status.DELIVERED] == StatusCount(LIMIT, LIMIT + 1)
    assert seen.stages[Status.PROCESSING].waiting == LIMIT
    assert seen.stages[Status.PROCESSING].due == LIMIT
    # What a session read is in the statistics for sure when it has ended.
    wait_until(lambda: counted(connection)[1] > 10)
    later = counted(connection)
    assert later[0] == scans
    assert later[2] - rows < 10 * LIMIT


def counted(connection: Connection) -> tuple[int, int, int]:
    [(table_scans, index_scans, rows)] = connection.execute(READ).fetchall()
    return table_scans, index_scans, rows


def test_how_many_more_orders_there_are_the_statistics_know(
    watching: Watching, connection: Connection
) -> None:
    connection.execute(
        "INSERT INTO order_statuses (order_id, tenant_id, status)"
        " SELECT gen_random_uuid(), 1, 'delivered' FROM generate_series(1, 5000)"
    )
    connection.execute("ANALYZE order_statuses")
    assert watching.look().statuses[Status.DELIVERED] == StatusCount(LIMIT, 5000)


def test_the_page_its_samples_and_its_stream_are_served(
    environment: dict[str, str], connection: Connection, tmp_path: Path
) -> None:
    connection.execute("INSERT INTO samples SELECT now() - interval '5 min', 7, 0, NULL, '{}'")
    with serve(environment, tmp_path, workers=1) as server:
        page = server.send(
            b"GET /dashboard HTTP/1.1\r\nHost: localhost\r\nAccept-Language: pt\r\n\r\n"
        )
        assert page.status == 200
        assert "Visão geral" in page.body.decode()
        samples = server.send(
            b"GET /dashboard/overview/samples HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert [each["oldest_due"] for each in json.loads(samples.body)] == [7]
        url = f"http://127.0.0.1:{server.port}/dashboard/live/overview"
        with urllib.request.urlopen(url, timeout=10) as stream:
            for line in stream:
                state = json.loads(line.removeprefix(b"data: ")) if line[:6] == b"data: " else {}
                # It may not have said that it lives yet.
                if state and state["processes"]["api"]:
                    break
        assert state["troubles"][0] == {"kind": "publisher_away", "subject": "", "figure": 0.0}
