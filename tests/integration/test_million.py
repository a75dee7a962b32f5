"""Lists among a million orders."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from explaining import explain, pages_of
from millions import CORRECTED, LATELY, ORDERS, START
from psycopg_pool import ConnectionPool

from slimtrack.domain.listing import Listing
from slimtrack.domain.order import Status, first_id_of
from slimtrack.sql import orders
from slimtrack.use_cases.tracking import Tracking

#: Pages of 8 kB that a list may look at. How long it takes is printed: that is the machine's.
MOST_PAGES = 12_000


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
    "anybody's": {"tenant_id": None},
    "anybody's, in a status of few": {"tenant_id": None, "statuses": frozenset({Status.LOST})},
    "anybody's, the far end": {"tenant_id": None, "before": first_id_of(around(0.02))},
    "anybody's, metadata of many": {"tenant_id": None, "metadata": GIFT},
    "anybody's, updated ever": {"tenant_id": None, "updated_after": START},
    "anybody's, updated lately": {"tenant_id": None, "updated_after": LATELY},
    "anybody's, not delivered": {"tenant_id": None, "statuses": frozenset(Status) - DELIVERED},
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


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_lists_among_a_million_orders_look_at_few_pages_and_scan_no_table(
    million_pool: ConnectionPool,
) -> None:
    tracking = Tracking(million_pool, wake_up=lambda: None, schedule=None)  # type: ignore[arg-type]
    with million_pool.connection() as connection:
        row = connection.execute(
            "SELECT tracking_number FROM orders LIMIT 1 OFFSET 4711"
        ).fetchone()
    assert row
    lists = {
        **LISTS,
        "a reference": {"reference": f"PO-{ORDERS // 2 + 1}"},
        "anybody's reference": {"tenant_id": None, "reference": f"PO-{ORDERS // 2 + 1}"},
        "a reference of another status": {"reference": "PO-7", "statuses": DELIVERED},
        "a tracking code": {"tracking_number": row[0]},
    }
    figures: dict[str, tuple[float, float, int]] = {}
    for name, asked in lists.items():
        for oldest_first in (False, True):
            listing = Listing(**{"tenant_id": 1, "oldest_first": oldest_first, **asked})
            title = f"{name}, oldest first" if oldest_first else name
            figures[title] = measure(
                million_pool, partial(tracking.list, listing, limit=21), name=title
            )
    every = Listing(tenant_id=1)
    page = partial(tracking.list, every, limit=101, offset=9_900)
    figures["the last page by number"] = measure(million_pool, page, name="page")
    total = partial(tracking.count, every, limit=10_000)
    figures["the total"] = measure(million_pool, total, name="total")
    figures["orders that are there already"] = measure(
        million_pool, partial(find, million_pool), name="find"
    )
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
    # There are some tenants here, and never many.
    scans = [plan for plan in plans if "Seq Scan" in plan.replace("Seq Scan on tenants", "")]
    assert not scans, f"{name}:\n" + "\n".join(scans)
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    seconds.sort()
    pages = sum(map(pages_of, plans))
    assert pages, f"{name}: the server did not count its pages"
    return seconds[50], seconds[98], pages
