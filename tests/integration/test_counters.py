"""What an order costs, counted and not timed: it does not depend on how fast the machine is."""

import time
import tomllib
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from instrumented import (
    BULK,
    Instrumented,
    instrumented_processes,
    instrumented_servers,
    observer,
    value,
)
from observing import wait_until
from wire import Counts

from slimtrack.domain.order import JOURNEY

ALLOWED: Final = Path(__file__).with_name("counters.toml")
#: How far a figure may be from what it is about.
TOLERANCE: Final = 0.1

SINGLE: Final = 1_000
KEYED: Final = 200
REQUESTS: Final = 5
#: Three periods of the publisher's.
IDLE_SECONDS: Final = 15.0

SESSIONS: Final = """
SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'slimtrack %'
"""
#: Partitions count as the table that they are parts of.
SEQUENTIAL_SCANS: Final = """
SELECT coalesce(inhparent, relid)::regclass::text, sum(seq_scan)::float8
  FROM pg_stat_user_tables LEFT JOIN pg_inherits ON inhrelid = relid
 GROUP BY 1
HAVING coalesce(inhparent, relid)::regclass::text
       IN ('orders', 'order_statuses', 'order_events', 'outbox')
"""
HOT_UPDATES: Final = """
SELECT n_tup_hot_upd::float8 / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'orders'
"""
#: What triggers and foreign keys do, row by row.
INNER_STATEMENTS: Final = """
SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements WHERE NOT toplevel
"""

Figures = dict[str, dict[str, float]]


def test_an_order_costs_no_more_than_is_allowed() -> None:
    allowed = tomllib.loads(ALLOWED.read_text("utf-8"))
    figures: Figures = {}
    with instrumented_servers() as environment, observer(environment) as connection:
        with instrumented_processes(environment, connection) as system:
            figures["single"] = count_single(system)
            figures["keyed"] = count_keyed(system)
            figures["bulk"] = count_bulk(system)
            figures["stages"] = count_stages(system)
            figures["idle"] = count_idle(system)
        figures["tables"] = count_in_tables(connection)
        assert not value(connection, "SELECT count(*) FROM orders WHERE status <> 'delivered'")
    report, misses = compare(figures, allowed)
    print(report)  # noqa: T201 - for whoever sets the figures anew
    assert not misses, report


def count_single(system: Instrumented) -> dict[str, float]:
    counts, wal = system.count(partial(system.place_single, SINGLE))
    return {
        "round_trips_per_order": round_trips_of_api(counts) / SINGLE,
        "commits_per_order": commits_of_api(counts) / SINGLE,
        "key_look_ups_per_order": counts["slimtrack api", "look-up"] / SINGLE,
        "preparations_per_order": counts["slimtrack api", "preparation"] / SINGLE,
        "wake_ups_per_order": counts["slimtrack wake-up", "NOTIFY"] / SINGLE,
        "wal_bytes_per_order": wal / SINGLE,
    }


def count_keyed(system: Instrumented) -> dict[str, float]:
    counts, wal = system.count(partial(system.place_keyed, KEYED))
    return {
        "round_trips_per_order": round_trips_of_api(counts) / KEYED,
        "commits_per_order": commits_of_api(counts) / KEYED,
        "wal_bytes_per_order": wal / KEYED,
    }


def count_bulk(system: Instrumented) -> dict[str, float]:
    counts, wal = system.count(partial(system.place_bulk, REQUESTS))
    return {
        "round_trips_per_request": round_trips_of_api(counts) / REQUESTS,
        "commits_per_request": commits_of_api(counts) / REQUESTS,
        "wake_ups_per_request": counts["slimtrack wake-up", "NOTIFY"] / REQUESTS,
        "wal_bytes_per_order": wal / REQUESTS / BULK,
    }


def round_trips_of_api(counts: Counts) -> int:
    return counts["slimtrack api", "round trip"] - counts["slimtrack api", "look-up"]


def commits_of_api(counts: Counts) -> int:
    return counts["slimtrack api", "transaction"] - counts["slimtrack api", "look-up"]


def count_stages(system: Instrumented) -> dict[str, float]:
    orders = SINGLE + KEYED + REQUESTS * BULK
    rows = orders * len(JOURNEY)
    counts, wal = system.count(system.deliver)
    sets = counts["clients", "publish"]
    assert sets, counts
    statements = sum(counts["slimtrack publisher", verb] for verb in ("SELECT", "UPDATE", "DELETE"))
    return {
        "publishes_per_row": sets / rows,
        "confirms_per_set": counts["server", "ack"] / sets,
        "deliveries_per_set": counts["server", "deliver"] / sets,
        "acks_per_set": counts["clients", "ack"] / sets,
        "failures": sum(
            counts[side, what]
            for side in ("clients", "server")
            for what in ("nack", "reject", "return")
        ),
        "outbox_statements_per_row": statements / rows,
        "publisher_round_trips_per_row": counts["slimtrack publisher", "round trip"] / rows,
        "worker_round_trips_per_set": counts["slimtrack worker", "round trip"] / sets,
        "worker_commits_per_set": counts["slimtrack worker", "transaction"] / sets,
        "worker_preparations_per_set": counts["slimtrack worker", "preparation"] / sets,
        "wake_ups_per_set": counts["slimtrack wake-up", "NOTIFY"] / sets,
        "wal_bytes_per_order": wal / orders,
    }


def count_idle(system: Instrumented) -> dict[str, float]:
    before = system.counts()
    time.sleep(IDLE_SECONDS)
    counts = system.counts() - before
    round_trips = sum(number for (_who, what), number in counts.items() if what == "round trip")
    assert round_trips, "the publisher did not look even once"
    return {"round_trips_per_second": round_trips / IDLE_SECONDS}


def count_in_tables(connection: psycopg.Connection) -> dict[str, float]:
    # What a session did is in the statistics for sure when it has ended.
    wait_until(lambda: not value(connection, SESSIONS))
    scans: dict[str, float] = dict(connection.execute(SEQUENTIAL_SCANS).fetchall())
    return {
        **{f"sequential_scans_of_{name}": number for name, number in sorted(scans.items())},
        "hot_updates_of_orders": value(connection, HOT_UPDATES),
        "statements_inside_others": value(connection, INNER_STATEMENTS),
    }


def compare(
    figures: Figures, allowed: dict[str, dict[str, dict[str, float]]]
) -> tuple[str, list[str]]:
    """Return a line for every figure, and those that are not as they may be."""
    assert {part: set(seen) for part, seen in figures.items()} == {
        part: set(bounds) for part, bounds in allowed.items()
    }
    lines = [f"{'counter':<48}{'seen':>12}  allowed"]
    misses: list[str] = []
    for part, seen in figures.items():
        for name, figure in seen.items():
            bounds = allowed[part][name]
            line = f"{part + '.' + name:<48}{figure:>12.4f}  " + ", ".join(
                f"{word} {bound}" for word, bound in bounds.items()
            )
            if not is_allowed(figure, **bounds):
                line += "   <-- MISSED"
                misses.append(line)
            lines.append(line)
    return "\n".join(lines), misses


def is_allowed(
    figure: float,
    *,
    least: float = float("-inf"),
    most: float = float("inf"),
    about: float | None = None,
) -> bool:
    return least <= figure <= most and (about is None or abs(figure - about) <= TOLERANCE * about)
