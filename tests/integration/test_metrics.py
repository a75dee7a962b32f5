"""The pages that Prometheus scrapes, of processes as they run."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from measured import ORDERS, System, answers, running, scrape
from observing import children_of, count, wait_until
from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from proxy import Proxy

from slimtrack.domain.order import JOURNEY
from slimtrack.sql.dead_letters import count_waiting
from slimtrack.sql.outbox import measure_outbox
from slimtrack.sql.pool import OUTBOX_PLANS, conninfo
from slimtrack.stack.processes import plan_workers, with_metrics
from slimtrack.telemetry.sharing import VARIABLE, directory_of, share_metrics

ACCEPTED = "slimtrack_orders_accepted_total"


def counted(connection: psycopg.Connection[Any], query: str) -> dict[Any, int]:
    rows = connection.execute(query).fetchall()  # our own words
    return {key[0] if len(key) == 1 else tuple(key): count for *key, count in rows}


@pytest.fixture(scope="module")
def eventful() -> dict[str, str]:
    """Settings with which work that fails is given up soon."""
    return {
        "SLIMTRACK_MIN_BACKOFF": "0.1",
        "SLIMTRACK_MAX_RETRIES": "1",
        "SLIMTRACK_DELIVERY_PAUSE": "0",
        "SLIMTRACK_WORKER_PROCESSES": "2",
    }


def test_what_is_counted_is_what_the_tables_say(
    environment: dict[str, str], connection: psycopg.Connection[Any], eventful: dict[str, str]
) -> None:
    with running(environment, "publisher", "worker", "api", **eventful) as system:
        place_all_kinds(system, connection)
        wait_until(lambda: count(connection, "outbox") == 0)
        orders = count(connection, "orders")
        moves = count(connection, "order_events WHERE kind = 'transition'") - orders
        assert orders == 285
        # They count after the commit that the tables show.
        wait_until(lambda: system.total("slimtrack_transitions_total") == moves)
        assert system.total(ACCEPTED) == orders
        check_orders(system, connection)
        check_messages(system, moves=moves)
        check_requests(system)
        assert system.total("slimtrack_build_info") == len(system.pages)
        # Two processes of an API or a worker have more than this, whatever they run on.
        assert system.total("slimtrack_memory_bytes") > len(system.pages) * 30_000_000
        for url in system.pages.values():
            for family in scrape(url):
                check_name(family)


def place_all_kinds(system: System, connection: psycopg.Connection[Any]) -> None:
    """Place orders that meet with everything that is counted."""
    for _ in range(30):
        system.place()
    for reference in ("fails_once/1", "fails_always/2", "delivery_failed/3", "cancelled/4"):
        system.place(reference=f"test:{reference}")
    system.place(flow="reported", reference="PO-1")
    row = connection.execute("SELECT id FROM orders WHERE reference = 'PO-1'").fetchone()
    assert row
    assert system.post(f"{ORDERS}/{row[0]}/reports", {"status": "processing"}) == 200
    assert system.post(f"{ORDERS}/{row[0]}/reports", {"status": "delivered"}) == 409
    assert system.post(f"{ORDERS}/{row[0]}/cancel", {}) == 200
    assert system.post(f"{ORDERS}/bulk", [{"description": "A parcel"}] * 250) == 200
    refused = {"description": "A parcel", "reference": "PO-1"}
    assert system.post(f"{ORDERS}/bulk", [refused]) == 200
    assert system.post(ORDERS, {"description": ""}) == 422


def check_orders(system: System, connection: psycopg.Connection[Any]) -> None:
    by_status = counted(
        connection,
        "SELECT status, count(*) FROM order_events"
        " WHERE kind = 'transition' AND status <> 'received' GROUP BY 1",
    )
    assert {"cancelled", "delivery_failed"} < set(by_status)
    for status, number in by_status.items():
        assert system.total("slimtrack_transitions_total", status=status) == number
    letters = counted(
        connection, "SELECT stage, error_type, count(*) FROM dead_letters GROUP BY 1, 2"
    )
    assert letters == {("in_transit", "SimulatedFailureError"): 1}
    labels = {"stage": "in_transit", "error": "SimulatedFailureError"}
    assert system.total("slimtrack_dead_letters_total") == 1
    assert system.total("slimtrack_dead_letters_total", **labels) == 1
    assert system.total("slimtrack_retries_total", **labels) == 2
    durations = "slimtrack_order_duration_seconds_count"
    assert system.total(durations, status="delivered") > 0
    assert system.total(durations, status="cancelled") == by_status["cancelled"] == 2


def check_messages(system: System, *, moves: int) -> None:
    sets = system.total("slimtrack_published_messages_total", kind="set", outcome="confirmed")
    wait_until(lambda: system.total("dramatiq_messages_total") == sets)
    assert sets == system.total("slimtrack_published_messages_total")
    assert system.total("dramatiq_message_duration_milliseconds_count") == sets
    # Both that fail at first may have travelled together.
    assert 2 <= system.total("dramatiq_message_errors_total") <= 3
    wait_until(lambda: system.total("dramatiq_messages_inprogress") == 0)
    assert system.total("slimtrack_outbox_claim_duration_seconds_count") > 0
    rows = system.total("slimtrack_outbox_published_rows_total")
    # Each moved an order, but three that failed, and that of an order that was cancelled. A report
    # and two cancels needed none.
    assert rows - 4 >= moves - 3
    applied = "slimtrack_stage_due_to_applied_seconds"
    for stage in JOURNEY:
        assert 0 < system.total(f"{applied}_count", stage=stage) <= rows
        assert 0 < system.total(f"{applied}_sum", stage=stage) < 60 * rows
        assert system.total("slimtrack_outbox_publish_lag_seconds_count", stage=stage) > 0


def check_requests(system: System) -> None:
    requests = "slimtrack_http_request_duration_seconds_count"
    assert system.total(requests, route=ORDERS, method="POST", status="2xx") == 35
    assert system.total(requests, route=ORDERS, method="POST", status="4xx") == 1
    assert system.total(requests, route=f"{ORDERS}/{{order}}/reports", status="4xx") == 1
    connections = "slimtrack_pool_connections"
    wait_until(lambda: system.total(connections, pool="slimtrack api") == 2 * 16)
    assert system.post("/metrics", {}) == 404, "they are for everybody"


def check_name(family: Metric) -> None:
    """Hold a metric to the conventions of Prometheus, or to the names of Dramatiq."""
    prefix = family.name.partition("_")[0]
    assert prefix in {"slimtrack", "dramatiq", "process", "python"}, family.name
    assert family.documentation
    if prefix == "slimtrack":
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", family.name)
        # The parser takes the ending of counters away.
        assert not family.name.endswith(("_milliseconds", "_ms", "_minutes"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds"), family.name
    for sample in family.samples:
        if prefix == "slimtrack" and family.type == "counter":
            assert sample.name.endswith(("_total", "_created"))
        for value in sample.labels.values():
            assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", value), sample
            assert len(value) <= 60


def test_workers_of_the_api_are_summed_and_what_a_killed_one_has_counted_is_kept(
    environment: dict[str, str],
) -> None:
    with running(environment, "api") as system:
        master = system.pid("api")
        placed = 0
        shares: dict[int, float] = {}
        # One of them may take a while to start.
        while len(shares) < 2 or not all(shares.values()):
            assert placed < 5_000, "one worker does all of it"
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda _: system.place(), range(50)))
            placed += 50
            shares = {pid: accepted_by(master, pid) for pid in children_of(master)}
        assert system.total(ACCEPTED) == sum(shares.values()) == placed

        for pid in shares:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in children_of(master))  # type: ignore[misc] # bound
            # The page may have been that one's: another one serves it within a second.
            wait_until(lambda: answers(system.pages["api"]))
            assert system.total(ACCEPTED) == placed
        wait_until(lambda: len(children_of(master)) == 2)
        for _ in range(10):
            system.place()
        wait_until(lambda: system.total(ACCEPTED) == placed + 10)
        wait_until(lambda: system.total("slimtrack_pool_connections") == 2 * 16)
        kept = directory_of(master)
        assert kept.exists()
    assert not kept.exists()


def accepted_by(master: int, pid: int) -> float:
    files = [str(file) for file in directory_of(master).glob(f"counter_{pid}.db")]
    return sum(
        sample.value
        for metric in MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        for sample in metric.samples
        if sample.name == ACCEPTED
    )


REFRESHED = "slimtrack_refreshed_timestamp_seconds"
DEAD_LETTER = """
INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications, attempts,
                          created_at, error_type, error, traceback, discarded_at, discard_reason)
SELECT n, 'in_transit', gen_random_uuid(), 1, 1, 1, now(), 'E', 'e', '',
       CASE WHEN n > 1 THEN now() END, CASE WHEN n > 1 THEN 'done' END
  FROM generate_series(1, %s) AS n
"""


def add_rows(connection: psycopg.Connection[Any], rows: int, *, due: float) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, available_at)"
        " SELECT 'processing', gen_random_uuid(), 1, now() + make_interval(secs => %s)"
        " FROM generate_series(1, %s)",
        (due, rows),
    )


def test_the_publisher_shows_what_waits(
    environment: dict[str, str], connection: psycopg.Connection[Any]
) -> None:
    add_rows(connection, 10, due=-1_000)
    add_rows(connection, 5, due=1_000)
    connection.execute("UPDATE outbox SET created_at = available_at")
    connection.execute(DEAD_LETTER, [3])
    # Three are published, and nobody works on them.
    limits = {"SLIMTRACK_STAGE_BOUND": "3", "SLIMTRACK_SET_SIZE": "1"}
    with running(environment, "publisher", "api", **limits) as system:
        stage = {"stage": "processing"}
        wait_until(lambda: system.total("slimtrack_outbox_in_flight_rows", **stage) == 3)
        assert system.total("slimtrack_outbox_due_rows", **stage) == 7
        assert 1_000 <= system.total("slimtrack_outbox_oldest_due_seconds", **stage) < 1_100
        other = "out_for_delivery"
        assert system.total("slimtrack_outbox_oldest_due_seconds", stage=other) == 0
        assert system.total("slimtrack_dead_letters_waiting") == 1
        assert system.total("slimtrack_dead_letters_waiting", stage="in_transit") == 1
        depth = "slimtrack_queue_messages"
        wait_until(lambda: system.total(depth, queue="orders.processing") == 3)
        assert system.total(depth) == 3
        for name, url in system.pages.items():
            samples = [sample.name for family in scrape(url) for sample in family.samples]
            assert (REFRESHED in samples) == (name == "publisher")


def test_gauges_are_seen_to_be_stale_while_the_database_is_away_and_gone_with_the_publisher(
    environment: dict[str, str], database_url: str
) -> None:
    outbox = {"source": "outbox"}
    with (
        Proxy(database_url) as proxy,
        running(environment, "publisher", DATABASE_URL=proxy.url) as system,
    ):
        wait_until(lambda: system.total(REFRESHED, **outbox) > time.time() - 60)
        proxy.refuse()
        time.sleep(1)  # a look that was under way has ended
        seen = system.total(REFRESHED, **outbox)
        time.sleep(8)
        assert system.total(REFRESHED, **outbox) == seen
        proxy.accept()
        wait_until(lambda: system.total(REFRESHED, **outbox) > seen)

        os.kill(system.pid("publisher"), signal.SIGKILL)
        wait_until(lambda: not answers(system.pages["publisher"]))


def test_to_look_at_what_waits_costs_the_same_however_much_there_is(
    database_url: str, connection: psycopg.Connection[Any]
) -> None:
    info = conninfo(database_url, application_name="publisher", options=OUTBOX_PLANS)
    with psycopg.connect(info, autocommit=True) as publisher:

        def look() -> int:
            """Return the pages that a look touches."""
            before = pages(publisher)
            measured, _floors = measure_outbox(publisher, limit=2_000)
            waiting = count_waiting(publisher, limit=2_000)
            assert waiting == ({"in_transit": 1} if measured["processing"].due else {})
            return pages(publisher) - before

        for _ in range(8):  # enough for the server to settle on a generic plan
            look()
        add_rows(connection, 300_000, due=1_000)
        add_rows(connection, 50_000, due=-1)
        connection.execute(DEAD_LETTER, [100_000])
        measured, _floors = measure_outbox(publisher, limit=2_000)
        assert measured["processing"].due == 2_000
        assert 0 < look() < 3_000
        scans = publisher.execute(
            "SELECT sum(seq_scan) FROM pg_stat_user_tables"
            " WHERE relname IN ('outbox', 'dead_letters')"
        ).fetchone()
        assert scans == (0,)


def test_workers_that_are_loaded_again_leave_nothing_on_their_page(
    environment: dict[str, str],
) -> None:
    connections = "slimtrack_pool_connections"
    with running(environment, "worker-processing", SLIMTRACK_WORKER_THREADS="2") as system:
        wait_until(lambda: system.total(connections) == 2)
        [old] = children_of(system.pid("worker-processing"))
        os.kill(system.pid("worker-processing"), signal.SIGHUP)
        wait_until(lambda: children_of(system.pid("worker-processing")) not in ([], [old]))
        page = system.pages["worker-processing"]
        wait_until(lambda: answers(page) and system.total(connections) > 0)
        assert system.total(connections) == 2


def test_dead_letters_of_one_stage_do_not_hide_those_of_another(
    connection: psycopg.Connection[Any],
) -> None:
    connection.execute(DEAD_LETTER, [30])
    connection.execute(
        "UPDATE dead_letters SET discarded_at = NULL, discard_reason = NULL,"
        " stage = CASE WHEN outbox_id > 25 THEN 'processing' ELSE stage END"
    )
    assert count_waiting(connection, limit=10) == {"in_transit": 10, "processing": 5}


def pages(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::integer"
        " FROM pg_statio_user_tables WHERE relname IN ('outbox', 'dead_letters')"
    ).fetchone()
    assert row
    return int(row[0])


def test_what_a_killed_group_has_left_is_removed_by_the_next_one() -> None:
    share = (
        "import os, sys; from slimtrack.telemetry.sharing import *;"
        "share_metrics(master=os.getpid()); print(os.environ[VARIABLE], flush=True);"
        "sys.stdin.read()"
    )

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", share],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    with start()[0] as living, start()[0] as killed:
        _, theirs = living, directory_of(living.pid)
        left = directory_of(killed.pid)
        assert theirs.is_dir()
        assert left.is_dir()
        assert left.parent.stat().st_mode & 0o777 == 0o700
        killed.kill()
        killed.wait()
        with start()[0] as another:
            assert not left.exists()
            assert theirs.is_dir()
            another.kill()
        living.kill()


def test_what_is_no_folder_of_a_group_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimtrack.telemetry.sharing._MEMORY", tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    own = directory_of(os.getpid())
    for name in ("notes", "0-1"):
        (own.parent / name).mkdir(parents=True)
    share_metrics(master=os.getpid())
    assert sorted(each.name for each in own.parent.iterdir()) == sorted([own.name, "notes"])


def test_ports_that_are_taken_are_passed_over(environment: dict[str, str]) -> None:
    planned = plan_workers(environment)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        api_bind = f"127.0.0.1:{port + 1}"
        services = with_metrics(planned, bind=f"127.0.0.1:{port}", api_bind=api_bind)

    binds = [each.env["SLIMTRACK_METRICS_BIND"] for each in services]
    assert len({*binds, f"127.0.0.1:{port}", api_bind}) == len(planned) + 2
    assert [each.metrics for each in services] == [f"http://{bind}/metrics" for bind in binds]
