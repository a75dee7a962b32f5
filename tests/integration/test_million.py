"""Lists among a million orders."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from slimtrack.domain.listing import Listing
from slimtrack.domain.order import Status
from slimtrack.sql import orders
from slimtrack.use_cases.tracking import Tracking

ORDERS = 1_000_000
#: Seconds; the median and the slowest of a hundred lists are printed.
SLOWEST = 0.020
STATUSES = list(Status)

FILL = """
INSERT INTO orders (id, tenant_id, reference, description, metadata, flow, status, version,
                    status_sequence, created_at, updated_at)
SELECT ids.id, CASE WHEN n %% 1000 = 0 THEN 2 ELSE 1 END, 'PO-' || n, 'A parcel',
       CASE WHEN n %% 10000 = 1 THEN '{"city": "Berlin"}' ELSE '{}' END::jsonb, 'simulated',
       CASE WHEN n %% 100000 = 7 THEN 'lost' WHEN n %% 5000 = 9 THEN 'received'
            ELSE 'delivered' END,
       5, 5, made, made
  FROM generate_series(1, %(count)s) AS n
 CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 s' AS made) AS times
 CROSS JOIN LATERAL (
    SELECT (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0')
            || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id) AS ids
"""


@pytest.fixture(scope="module")
def filled(servers: Any, template: str) -> Iterator[str]:
    """A database with a million orders of two tenants."""
    url = servers["DATABASE_URL"].rpartition("/")[0]
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE million TEMPLATE {template}")
        with psycopg.connect(f"{url}/million", autocommit=True) as million:
            million.execute("INSERT INTO tenants (name) VALUES ('small')")
            million.execute(FILL, {"count": ORDERS})
            million.execute(
                "INSERT INTO order_statuses (order_id, tenant_id, status)"
                " SELECT id, tenant_id, status FROM orders"
            )
            million.execute("VACUUM ANALYZE orders, order_statuses")
        yield f"{url}/million"
        connection.execute("DROP DATABASE million WITH (FORCE)")


LISTS = {
    "all": Listing(tenant_id=1),
    "a status of few": Listing(tenant_id=1, statuses=frozenset({Status.LOST})),
    "a status of some": Listing(tenant_id=1, statuses=frozenset({Status.RECEIVED})),
    "a status of nearly all": Listing(tenant_id=1, statuses=frozenset({Status.DELIVERED})),
    "a status of none": Listing(tenant_id=1, statuses=frozenset({Status.CANCELLED})),
    "the oldest": Listing(tenant_id=1, oldest_first=True),
    "a small tenant": Listing(tenant_id=2),
    "metadata": Listing(tenant_id=1, metadata={"city": "Berlin"}),
    "nobody's metadata": Listing(tenant_id=1, metadata={"city": "Bonn"}),
}
COUNTS = {"a status of few": 10, "a status of none": 0, "nobody's metadata": 0}


@pytest.mark.timeout(600)
def test_lists_among_a_million_orders_are_fast_and_scan_no_table(filled: str) -> None:
    with ConnectionPool(
        filled, kwargs={"autocommit": True, "prepare_threshold": 0}, min_size=1, open=True
    ) as pool:
        tracking = Tracking(pool, wake_up=lambda: None, schedule=None)  # type: ignore[arg-type]
        figures = {}
        for name, listing in LISTS.items():
            assert len(tracking.list(listing, limit=20)) == COUNTS.get(name, 20), name
            figures[name] = measure(lambda listing=listing: tracking.list(listing, limit=20))
            plan = explain(pool, listing)
            assert "Seq Scan" not in plan, f"{name}:\n{plan}"
        far = tracking.list(Listing(tenant_id=1), limit=1, offset=ORDERS - 2000)[0].id
        end = Listing(tenant_id=1, before=far)
        figures["the far end"] = measure(lambda: tracking.list(end, limit=20))
        assert "Seq Scan" not in explain(pool, end)
        reference = Listing(tenant_id=1, reference=f"PO-{ORDERS // 2 + 1}")
        assert tracking.find(reference)
        figures["a reference"] = measure(lambda: tracking.find(reference))
        figures["the total"] = measure(lambda: tracking.count(Listing(tenant_id=1), limit=10_000))
    for name, (median, slowest) in figures.items():
        print(f"{name}: median {1000 * median:.1f} ms, p99 {1000 * slowest:.1f} ms")  # noqa: T201
    assert max(slowest for _, slowest in figures.values()) < SLOWEST, figures


def measure(ask: Any) -> tuple[float, float]:
    """Return the median and the 99th percentile of the seconds that a question takes."""
    ask()
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    seconds.sort()
    return seconds[50], seconds[98]


def explain(pool: ConnectionPool, listing: Listing) -> str:
    """Return the plan of a list's own statement."""
    with pool.connection() as connection:
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.execute("SET auto_explain.log_analyze = on")
        connection.execute("SET client_min_messages = log")
        said: list[str] = []
        listen = lambda notice: said.append(notice.message_primary or "")  # noqa: E731 - as above
        connection.add_notice_handler(listen)
        find = orders.search_orders if listing.needs_search else orders.walk_orders
        find(connection, listing, limit=20)
        connection.remove_notice_handler(listen)
        connection.execute("RESET client_min_messages")
        connection.execute("SET auto_explain.log_min_duration = -1")
    assert said, "the server did not explain its plan"
    return "\n".join(said)
