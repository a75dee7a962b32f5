"""How cost grows: with the orders that are there already, and with worker processes."""

from collections.abc import Iterator
from typing import Final

from benchmarks.figures import Figures, Group, Scale
from benchmarks.measures.flowing import check, drain, fill
from benchmarks.measures.responding import first_stage
from benchmarks.system import Database, System
from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import JOURNEY, Status

_RATE: Final = 50.0
_PROCESSES: Final = (1, 2, 3, 4)
_TABLES: Final = ("orders", "order_statuses", "order_events")

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
    for size in scale.sizes:
        with (
            system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes,
            system.connect() as database,
        ):
            _deliver(database, size)
            used = table_bytes(database)
            sizes = {f"{name}, bytes an order": used[name] / size for name in _TABLES}
            fill(processes, orders=scale.orders)
            rate = scale.orders / drain(database)
            latency = first_stage(processes, database, rate=_RATE, seconds=scale.seconds)
            drain(database)
            check(database)
        yield {"orders in the tables": size, "whole orders/s": rate, **latency, **sizes}


def worker_processes(system: System, scale: Scale) -> Iterator[Figures]:
    """Take orders through with more and more processes for each queue."""
    for count in _PROCESSES:
        with (
            system.processes(
                SLIMTRACK_STAGE_DELAYS="0", SLIMTRACK_WORKER_PROCESSES=str(count)
            ) as processes,
            system.connect() as database,
        ):
            fill(processes, orders=2 * scale.orders)
            rate = 2 * scale.orders / drain(database)
            check(database)
        yield {"worker processes of each queue": count, "whole orders/s": rate}


def _deliver(database: Database, orders: int) -> None:
    database.execute(_ORDERS, [orders])
    database.execute(_STATUSES)
    statuses = [Status.RECEIVED, *JOURNEY]
    database.execute(_EVENTS, [statuses, [MESSAGES[each] for each in statuses]])
    database.execute("VACUUM ANALYZE orders, order_statuses, order_events")
    database.execute("CHECKPOINT")


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
