"""The transition: what a set of outbox rows does to its orders, however often it is delivered."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from slimtrack.domain.order import JOURNEY, NewOrder, Order, Status, new_order_id
from slimtrack.domain.schedule import Due
from slimtrack.routing import Schedule
from slimtrack.sql import orders, outbox
from slimtrack.sql.pool import OUTBOX_PLANS, conninfo, open_pool
from slimtrack.use_cases.tracking import Tracking


def place(tracking: Tracking, count: int = 1) -> list[Order]:
    placed = tracking.place_many(
        [
            NewOrder(id=new_order_id(), description=f"Parcel {n}", correlation_id="c-1")
            for n in range(count)
        ]
    )
    return [order for order in placed if isinstance(order, Order)]


def due(connection: psycopg.Connection[Any], stage: Status) -> list[int]:
    rows = connection.execute("SELECT id FROM outbox WHERE stage = %s ORDER BY id", [stage])
    return [row[0] for row in rows]


def test_an_order_goes_through_all_stages_with_one_event_each(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [order] = place(tracking)

    for stage in JOURNEY:
        assert tracking.advance(stage, due(connection, stage)) == (1, 1)

    events = tracking.history(order.id)
    assert [(event.sequence, event.status) for event in events] == list(
        enumerate((Status.RECEIVED, *JOURNEY), start=1)
    )
    assert connection.execute(
        "SELECT idempotency_key, correlation_id FROM order_events ORDER BY sequence"
    ).fetchall() == [
        (f"{order.id}:{number}:{status}", "c-1")
        for number, status in enumerate((Status.RECEIVED, *JOURNEY))
    ]
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_set_that_is_delivered_twice_changes_nothing_the_second_time(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking, 10)
    ids = due(connection, Status.PROCESSING)

    assert tracking.advance(Status.PROCESSING, ids) == (10, 10)
    assert tracking.advance(Status.PROCESSING, ids) == (0, 0)

    assert connection.execute("SELECT count(*) FROM order_events").fetchone() == (20,)
    assert len(due(connection, Status.IN_TRANSIT)) == 10


def test_overlapping_sets_at_once_move_each_order_once(
    database_url: str, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking, 200)
    ids = due(connection, Status.PROCESSING)
    sets = [random.Random(seed).sample(ids, 120) for seed in range(24)]  # noqa: S311 - a shuffle
    sets.append(ids)
    with open_pool(
        database_url, application_name="many", size=8, options=OUTBOX_PLANS, timeout=10
    ) as pool:
        worker = Tracking(
            pool, wake_up=lambda: None, schedule=Schedule(dict.fromkeys(JOURNEY, 0.0))
        )
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(lambda each: worker.advance(Status.PROCESSING, each), sets))

    assert sum(outcome.moved for outcome in outcomes) == 200
    assert connection.execute(
        "SELECT status, version, count(*) FROM orders GROUP BY 1, 2"
    ).fetchall() == [("processing", 2, 200)]


def test_a_message_that_names_a_row_of_another_stage_leaves_the_row(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking)
    ids = due(connection, Status.PROCESSING)

    assert tracking.advance(Status.IN_TRANSIT, ids) == (0, 0)

    assert due(connection, Status.PROCESSING) == ids


def test_a_row_that_was_made_due_later_is_not_run_by_a_stale_message(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking)
    ids = due(connection, Status.PROCESSING)
    connection.execute("UPDATE outbox SET available_at = now() + interval '1 min'")

    assert tracking.advance(Status.PROCESSING, ids) == (0, 0)

    assert due(connection, Status.PROCESSING) == ids


def test_a_row_whose_order_has_moved_on_is_done_with(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [order] = place(tracking)
    connection.execute("UPDATE orders SET status = 'cancelled', version = 2, status_sequence = 2")

    assert tracking.advance(Status.PROCESSING, due(connection, Status.PROCESSING)) == (1, 0)

    assert tracking.get(order.id).status is Status.CANCELLED
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_row_of_an_earlier_event_does_not_move_an_order_that_has_its_status_again(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    [order] = place(tracking)
    # As after a failed delivery: the same status, set by a later event.
    connection.execute(
        "UPDATE orders SET status = 'out_for_delivery', version = 6, status_sequence = 6"
    )
    connection.execute("UPDATE outbox SET stage = 'delivered', from_sequence = 4")

    assert tracking.advance(Status.DELIVERED, due(connection, Status.DELIVERED)) == (1, 0)

    assert tracking.get(order.id).status is Status.OUT_FOR_DELIVERY


def test_a_row_of_an_unknown_order_is_done_with(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking)
    connection.execute("DELETE FROM orders")

    assert tracking.advance(Status.PROCESSING, due(connection, Status.PROCESSING)) == (1, 0)


def test_the_next_stage_is_due_after_its_delay(
    tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking)
    orders.advance_orders(
        connection,
        due(connection, Status.PROCESSING),
        stage=Status.PROCESSING,
        following=Due(Status.IN_TRANSIT, 60.0),
        fan_out=False,
    )

    assert connection.execute(
        "SELECT stage, extract(epoch FROM available_at - created_at)::float FROM outbox"
    ).fetchall() == [("in_transit", 60.0)]


#: Pages that a set of 100 rows may touch, whatever the tables hold.
BUFFERS = 6_000


def figures(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Buffers touched, and sequential scans, on the tables of the pipeline."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int,"
        " sum(seq_scan)::int FROM pg_statio_user_tables JOIN pg_stat_user_tables"
        " USING (relid) WHERE pg_stat_user_tables.relname IN ('orders', 'order_statuses', 'outbox')"
        " OR relid IN (SELECT relid FROM pg_partition_tree('order_events'))"
    ).fetchone()
    assert row
    return row[0], row[1]


def test_the_plans_for_an_empty_outbox_serve_a_full_one(
    database_url: str, pool: ConnectionPool, connection: psycopg.Connection[Any]
) -> None:
    no_delays = Schedule(dict.fromkeys(JOURNEY, 0.0))
    tracking = Tracking(pool, wake_up=lambda: None, schedule=no_delays, fan_out=True)
    info = conninfo(database_url, application_name="worker", options=OUTBOX_PLANS)
    connection.execute("VACUUM ANALYZE orders, order_statuses, order_events, outbox")
    with psycopg.connect(info, autocommit=True) as worker:

        def advance(ids: list[int]) -> int:
            advanced, _ages = orders.advance_orders(
                worker,
                ids,
                stage=Status.PROCESSING,
                following=Due(Status.IN_TRANSIT, 0.0),
                fan_out=False,
            )
            return advanced.moved

        def find_tested(ids: list[int]) -> int:
            orders.find_tested_rows(worker, ids, stage=Status.PROCESSING)
            return len(ids)

        def claim_events(ids: list[int]) -> int:
            return len(outbox.claim_events(worker, limit=len(ids)))

        statements = (advance, find_tested, claim_events)
        for statement in statements:
            for _ in range(8):  # enough for the server to settle on a generic plan
                statement([1])
        for _ in range(100):
            place(tracking, 1000)
        # As they become when the tables are analysed, and the outbox is not.
        connection.execute("VACUUM ANALYZE orders, order_statuses, order_events")
        # The newest: what reads a table up to the rows that it wants would read all of it.
        ids = due(connection, Status.PROCESSING)[-1000:]
        connection.execute(
            "UPDATE outbox SET available_at = '2026-01-01' WHERE stage = 'events'"
            " AND order_id IN (SELECT order_id FROM outbox WHERE id = ANY(%s))",
            [ids],
        )
        for statement in statements:
            before, scans_before = figures(worker)
            for start in range(0, 1000, 100):
                assert statement(ids[start : start + 100]) == 100
            after, scans_after = figures(worker)
            assert scans_after == scans_before, statement.__name__
            assert 0 < (after - before) / 10 < BUFFERS, statement.__name__


def test_nearly_all_moves_of_an_order_are_hot_updates(
    database_url: str, tracking: Tracking, connection: psycopg.Connection[Any]
) -> None:
    place(tracking, 2000)
    info = conninfo(database_url, application_name="worker", options=OUTBOX_PLANS)
    with psycopg.connect(info, autocommit=True) as worker:
        for stage, next_stage in zip(JOURNEY, [*JOURNEY[1:], None], strict=True):
            ids = due(connection, stage)
            for start in range(0, len(ids), 100):
                orders.advance_orders(
                    worker,
                    ids[start : start + 100],
                    stage=stage,
                    following=Due(next_stage, 0.0),
                    fan_out=False,
                )
        worker.execute("SELECT pg_stat_force_next_flush()")

    counts = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'orders'"
    ).fetchone()
    assert counts
    assert counts[0] == 8000
    assert counts[1] / counts[0] >= 0.9
