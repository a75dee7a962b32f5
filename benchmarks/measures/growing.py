"""How cost grows: with the orders that are there already, and with worker processes."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from benchmarks.figures import Figures, Group, Scale
from benchmarks.measures.flowing import check, drain, fill
from benchmarks.measures.responding import first_stage
from benchmarks.system import Database, System
from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import JOURNEY, Status

_RATE: Final = 50.0
_PROCESSES: Final = (1, 2, 3, 4)

#: Delivered orders of the last minutes, a millisecond from each other, with the ids of their time.
_ORDERS: Final = """
    INSERT INTO orders (id, description, status, version, status_sequence, delivery_attempts,
                        created_at, updated_at)
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
            || '7' || substr(gen_random_uuid()::text, 16))::uuid,
           'A parcel', 'delivered', 5, 5, 1, moment, moment
      FROM generate_series(1, %s) AS number,
           LATERAL (SELECT now() - number * interval '1 ms' AS moment) AS made
     ORDER BY number DESC
"""
_STATUSES: Final = """
    INSERT INTO order_statuses (order_id, tenant_id, status, updated_at)
    SELECT id, tenant_id, status, updated_at FROM orders
"""
_EVENTS: Final = """
    INSERT INTO order_events (order_id, sequence, status, message, attempt, idempotency_key,
                              correlation_id, occurred_at, recorded_at)
    SELECT id, sequence, event.status, event.message,
           CASE WHEN sequence > 3 THEN 1 END, id || ':' || sequence - 1 || ':' || event.status,
           md5(id::text), created_at, created_at
      FROM orders,
           unnest(%s::text[], %s::text[]) WITH ORDINALITY AS event (status, message, sequence)
"""


def orders_in_the_tables(system: System, scale: Scale) -> Iterator[Figures]:
    """Take orders through while more and more delivered ones are there."""

    def measured(size: int) -> Figures:
        with (
            system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes,
            system.connect() as database,
        ):
            _deliver(database, size)
            filled = _relation_bytes(database)
            fill(processes, orders=scale.orders)
            rate = scale.orders / drain(database)
            after = _relation_bytes(database)
            latency = first_stage(processes, database, rate=_RATE, seconds=scale.seconds)
            drain(database)
            check(database)
        # Those just taken through still have their dead versions, which vacuum gives to others.
        grown = {name: used - filled[name] for name, used in after.items()}
        return {
            "orders in the tables": size,
            "whole orders/s": rate,
            **latency,
            **{f"{name}, bytes an order": used / size for name, used in filled.items()},
            **{f"{name}, bytes a fresh order": used / scale.orders for name, used in grown.items()},
        }

    return _medians(measured, scale.sizes, runs=scale.runs)


def worker_processes(system: System, scale: Scale) -> Iterator[Figures]:
    """Take orders through with more and more processes for each queue."""
    orders = 2 * scale.orders

    def measured(count: int) -> Figures:
        with (
            system.processes(
                SLIMTRACK_STAGE_DELAYS="0", SLIMTRACK_WORKER_PROCESSES=str(count)
            ) as processes,
            system.connect() as database,
        ):
            fill(processes, orders=orders)
            rate = orders / drain(database)
            check(database)
        return {"worker processes of each queue": count, "whole orders/s": rate}

    return _medians(measured, _PROCESSES, runs=scale.runs)


def _medians(
    measured: Callable[[int], Figures], points: Sequence[int], *, runs: int
) -> Iterator[Figures]:
    """Measure every point once, then all again: what disturbs one run disturbs all points."""
    seen = [[measured(point) for point in points] for _ in range(runs)]
    for figures in zip(*seen, strict=True):
        rates = [each["whole orders/s"] for each in figures]
        yield {
            **{name: statistics.median(each[name] for each in figures) for name in figures[0]},
            "least whole orders/s": min(rates),
            "most whole orders/s": max(rates),
        }


def _deliver(database: Database, orders: int) -> None:
    database.execute(_ORDERS, [orders])
    database.execute(_STATUSES)
    statuses = [Status.RECEIVED, *JOURNEY]
    database.execute(_EVENTS, [statuses, [MESSAGES[each] for each in statuses]])
    database.execute("VACUUM ANALYZE orders, order_statuses, order_events")
    database.execute("CHECKPOINT")


def _relation_bytes(database: Database) -> dict[str, int]:
    """Return the bytes of each table that keeps orders, of each of their indexes, and of all."""
    rows = database.execute(
        "SELECT coalesce(inhparent, oid)::regclass::text, sum(pg_table_size(oid))::bigint"
        "  FROM pg_class LEFT JOIN pg_inherits ON inhrelid = oid"
        " WHERE relkind IN ('r', 'i') AND relname LIKE 'order%'"
        " GROUP BY 1 ORDER BY 1"
    )
    sizes: dict[str, int] = dict(rows.fetchall())
    return {**sizes, "all": sum(sizes.values())}


def table_bytes(database: Database) -> dict[str, int]:
    """Return the bytes of each table with its indexes and partitions."""
    rows = database.execute(
        "SELECT parent.name, sum(pg_total_relation_size(part))::bigint"
        "  FROM unnest(ARRAY['orders', 'order_statuses', 'order_events', 'outbox'])"
        "       AS parent (name),"
        " LATERAL (SELECT parent.name::regclass AS part UNION ALL"
        "          SELECT inhrelid FROM pg_inherits WHERE inhparent = parent.name::regclass)"
        "       AS parts"
        " GROUP BY 1"
    )
    return dict(rows.fetchall())


SIZES: Final = Group(name="growth", what="With more and more orders", samples=orders_in_the_tables)
WORKERS: Final = Group(
    name="workers", what="With more and more worker processes", samples=worker_processes
)
