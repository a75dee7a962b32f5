"""Lists among a million orders."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.database import CALLER_SESSION
from slimtrack.domain.listing import Listing
from slimtrack.domain.order import Status, first_id_of
from slimtrack.sql import orders
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.tracking import Tracking

ORDERS = 1_000_000
#: Pages of 8 kB that a list may look at. How long it takes is printed: that is the machine's.
MOST_PAGES = 12_000

#: When the first order is made; one follows every second, and is delivered after six hours.
START = datetime(2026, 1, 1, tzinfo=UTC)
#: When every hundredth of all those orders is corrected.
CORRECTED = datetime(2026, 2, 1, tzinfo=UTC)
#: When some late reports come in.
LATELY = datetime(2026, 2, 2, tzinfo=UTC)

FILL = """
WITH filled AS (
INSERT INTO orders (id, tenant_id, reference, description, metadata, flow, status, version,
                    status_sequence, created_at, updated_at)
SELECT ids.id, CASE WHEN n %% 1000 = 0 THEN 2 ELSE 1 END, 'PO-' || n, 'A parcel',
       CASE WHEN n %% 10000 = 1 THEN '{"city": "Berlin"}'
            WHEN n %% 5 = 2 AND n < 900000 THEN '{"gift": "yes"}' ELSE '{}' END::jsonb, 'simulated',
       CASE WHEN n %% 100000 = 7 THEN 'lost' WHEN n %% 5000 = 9 THEN 'received'
            ELSE 'delivered' END,
       2, 2, made,
       CASE WHEN n %% 2000 = 4 THEN %(lately)s WHEN n %% 100 = 3 THEN %(corrected)s
            ELSE made + interval '6 hours' END
  FROM generate_series(%(first)s::integer, %(last)s::integer) AS n
 CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + n * interval '1 s' AS made) AS times
 CROSS JOIN LATERAL (
    SELECT (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0')
            || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id) AS ids
RETURNING id, tenant_id, status, created_at, updated_at
), located AS (
INSERT INTO order_statuses (order_id, tenant_id, status, updated_at)
SELECT id, tenant_id, status, updated_at FROM filled
)
INSERT INTO order_events (order_id, sequence, status, message, idempotency_key, occurred_at,
                          recorded_at)
SELECT id, sequence, CASE sequence WHEN 1 THEN 'received' ELSE status END, 'It happened',
       id || ':' || sequence, at, at
  FROM filled
 CROSS JOIN LATERAL (VALUES (1, created_at), (2, updated_at)) AS events (sequence, at)
"""
TIMES = {"start": START, "corrected": CORRECTED, "lately": LATELY}


@pytest.fixture(scope="module")
def filled(servers: Any, template: str) -> Iterator[str]:
    """A database with a million orders of two tenants, and their two million events."""
    url = servers["DATABASE_URL"].rpartition("/")[0] + "/million"

    def fill(first: int) -> None:
        with psycopg.connect(url, autocommit=True) as million:
            million.execute(FILL, {"first": first, "last": first + ORDERS // 2 - 1, **TIMES})

    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE million TEMPLATE {template}")
        with psycopg.connect(url, autocommit=True) as million:
            million.execute("INSERT INTO tenants (name) VALUES ('small')")
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(fill, [1, 1 + ORDERS // 2]))
            million.execute("VACUUM ANALYZE orders, order_statuses, order_events")
        yield url
        connection.execute("DROP DATABASE million WITH (FORCE)")


def around(days: float) -> datetime:
    """A time so many days after the first order; the last is made after 11.6 days."""
    return START + timedelta(days=days)


FIRST_DAY = first_id_of(around(1))
LAST_DAY = first_id_of(around(11))
DELIVERED = frozenset({Status.DELIVERED})
RECEIVED = frozenset({Status.RECEIVED})
BERLIN = {"city": "Berlin"}
GIFT = {"gift": "yes"}

LISTS: dict[str, dict[str, Any]] = {
    "all": {},
    "a status of few": {"statuses": frozenset({Status.LOST})},
    "a status of some": {"statuses": RECEIVED},
    "a status of nearly all": {"statuses": DELIVERED},
    "a status of none": {"statuses": frozenset({Status.CANCELLED})},
    "the far end": {"before": first_id_of(around(0.02))},
    "the other far end": {"after": first_id_of(around(11.55))},
    "a small tenant": {"tenant_id": 2},
    "metadata of few": {"metadata": BERLIN},
    "metadata of many": {"metadata": GIFT},
    "metadata of many, where few have it": {"metadata": GIFT, "tenant_id": 2},
    "nobody's metadata": {"metadata": {"city": "Bonn"}},
    "updated lately": {"updated_after": LATELY},
    "updated since the correction": {"updated_after": CORRECTED},
    "updated in the last days": {"updated_after": around(9)},
    "updated ever": {"updated_after": START},
    "updated before all": {"updated_before": START},
    "updated in the first day": {"updated_before": around(1)},
    "updated before the correction": {"updated_before": CORRECTED},
    "updated within an hour": {"updated_after": around(5), "updated_before": around(5.04)},
    "updated within a day": {"updated_after": around(5), "updated_before": around(6)},
    "updated by a small tenant": {"updated_after": around(5), "tenant_id": 2},
    "updated, in a status of few": {"updated_after": around(5), "statuses": RECEIVED},
    "updated, metadata of few": {"updated_after": around(5), "metadata": BERLIN},
    "updated, metadata of many": {"updated_after": around(5), "metadata": GIFT},
    "corrected, of the first day": {"updated_after": CORRECTED, "before": FIRST_DAY},
    "corrected, of the last day": {"updated_after": CORRECTED, "after": LAST_DAY},
}


@pytest.fixture(scope="module")
def pool(filled: str) -> Iterator[ConnectionPool]:
    """A connection like those of the API."""
    with open_pool(
        filled, application_name="test", size=1, options=CALLER_SESSION, timeout=5
    ) as opened:
        yield opened


@pytest.mark.timeout(600)
def test_lists_among_a_million_orders_look_at_few_pages_and_scan_no_table(
    pool: ConnectionPool,
) -> None:
    tracking = Tracking(pool, wake_up=lambda: None, schedule=None)  # type: ignore[arg-type]
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT tracking_number FROM orders LIMIT 1 OFFSET 4711"
        ).fetchone()
    assert row
    lists = {
        **LISTS,
        "a reference": {"reference": f"PO-{ORDERS // 2 + 1}"},
        "a reference of another status": {"reference": "PO-7", "statuses": DELIVERED},
        "a tracking code": {"tracking_number": row[0]},
    }
    figures: dict[str, tuple[float, float, int]] = {}
    for name, asked in lists.items():
        for oldest_first in (False, True):
            listing = Listing(**{"tenant_id": 1, "oldest_first": oldest_first, **asked})
            title = f"{name}, oldest first" if oldest_first else name
            figures[title] = measure(pool, partial(tracking.list, listing, limit=21), name=title)
    every = Listing(tenant_id=1)
    page = partial(tracking.list, every, limit=101, offset=9_900)
    figures["the last page by number"] = measure(pool, page, name="page")
    total = partial(tracking.count, every, limit=10_000)
    figures["the total"] = measure(pool, total, name="total")
    figures["orders that are there already"] = measure(pool, partial(find, pool), name="find")
    for name, (median, slowest, pages) in figures.items():
        took = f"median {1000 * median:.1f} ms, p99 {1000 * slowest:.1f} ms"
        print(f"{name}: {pages} pages, {took}")  # noqa: T201
    assert max(pages for _, _, pages in figures.values()) < MOST_PAGES, figures


def find(pool: ConnectionPool) -> None:
    """Ask as a request does whose ids or references are taken."""
    with pool.connection() as connection:
        found = orders.find_orders(
            connection,
            ids=[first_id_of(around(days)) for days in range(10)],
            tenant_ids=[1] * 20,
            references=[f"PO-{1000 * number + 1}" for number in range(20)],
        )
    assert len(found) == 20


def measure(pool: ConnectionPool, ask: Callable[[], Any], *, name: str) -> tuple[float, float, int]:
    """Return the median and the 99th percentile of a question's seconds, and its pages."""
    plans = explain(pool, ask)
    assert plans, f"{name}: the server did not explain its plan"
    assert not any("Seq Scan" in plan for plan in plans), f"{name}:\n" + "\n".join(plans)
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    seconds.sort()
    pages = sum(map(pages_of, plans))
    assert pages, f"{name}: the server did not count its pages"
    return seconds[50], seconds[98], pages


def pages_of(plan: str) -> int:
    """Return how many pages a statement looked at, in the cache or not; none if only planned."""
    whole = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    return sum(int(pages or 0) for pages in whole.groups()) if whole else 0


def explain(pool: ConnectionPool, ask: Callable[[], Any]) -> list[str]:
    """Return the plans of the statements that a question takes."""
    said: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    with pool.connection() as connection:
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET client_min_messages = log")
        connection.execute("SET auto_explain.log_analyze = on")
        connection.execute("SET auto_explain.log_buffers = on")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.add_notice_handler(listen)
    ask()  # the pool has no other connection
    with pool.connection() as connection:
        connection.remove_notice_handler(listen)
        connection.execute("RESET auto_explain.log_min_duration")
        connection.execute("RESET client_min_messages")
    return [each for each in said if "Query Text" in each]
