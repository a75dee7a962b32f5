"""The cache of histories: never behind what the database shows."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from clients import Caller, Callers
from psycopg_pool import ConnectionPool

from slimtrack.domain.order import JOURNEY, Flow
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.telemetry import metrics
from slimtrack.use_cases.tracking import Tracking


def hits() -> float:
    return sum(
        sample.value
        for metric in metrics.CACHE_REQUESTS.collect()
        for sample in metric.samples
        if sample.labels.get("outcome") == "hit" and sample.name.endswith("_total")
    )


def test_a_history_that_was_read_comes_from_the_cache(caller: Caller) -> None:
    order = caller.place()["id"]
    first, before = caller.events(order), hits()
    assert caller.events(order) == first
    assert hits() == before + 1
    caller.command(order, "reports", {"status": "processing"})
    assert len(caller.events(order)) == 2


def test_the_cache_does_not_show_orders_to_others(callers: Callers) -> None:
    shop, rival = callers.make(tenant="shop"), callers.make(tenant="rival")
    order = shop.place()["id"]
    for _ in range(2):
        assert len(shop.events(order)) == 1
        assert rival.simulate_get(f"/api/orders/{order}/events").status_code == 404


class Written:
    """The highest version of an order that somebody was told of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.version = 1

    def told(self, version: int) -> None:
        with self._lock:
            self.version = max(self.version, version)


def read_on(
    caller: Caller, orders: dict[str, Written], finished: threading.Event, faults: list[str]
) -> int:
    """Read histories until it is finished, and say what is missing; return how many."""
    reads = 0
    for order in itertools.cycle(orders):
        if finished.is_set():
            return reads
        least = orders[order].version
        sequences = [event["sequence"] for event in caller.events(order)]
        reads += 1
        if len(sequences) < least or sequences != list(range(1, len(sequences) + 1)):
            faults.append(f"events {sequences} after {least} were written")
    return reads


def test_no_reader_is_behind_a_writer(settings: Settings) -> None:
    # Each reader must see at least what was answered, or committed, before it began to ask.
    with open_pool(
        settings.database_url, application_name="test", size=8, options={}, timeout=5
    ) as pool:
        tracking = Tracking(pool, wake_up=lambda: None, schedule=Schedule(settings.stage_delays))
        callers = Callers(tracking, pool, redis_url=settings.redis_url)
        shop = callers.make(tenant="shop")
        seller = callers.make(tenant="seller", flow=Flow.SIMULATED)
        reported = {shop.place()["id"]: Written()}
        simulated = {seller.place()["id"]: Written() for _ in range(30)}
        finished = threading.Event()
        faults: list[str] = []

        def report(_: int) -> None:
            [(order, written)] = reported.items()
            for _ in range(100):
                answer = shop.command(order, "reports", {"status": "processing"})
                assert answer.status_code == 200
                written.told(answer.json["version"])

        def work(_: int) -> None:
            for moved, stage in enumerate(JOURNEY, 2):
                for order, written in simulated.items():
                    with pool.connection() as connection:
                        rows = connection.execute(
                            "SELECT id FROM outbox WHERE order_id = %s", [order]
                        ).fetchall()
                    tracking.advance(stage, [row[0] for row in rows])
                    written.told(moved)

        before = hits()
        with ThreadPoolExecutor(7) as threads:
            readers = [
                threads.submit(read_on, caller, orders, finished, faults)
                for caller, orders in 2 * ((shop, reported), (seller, simulated))
            ]
            writers = [threads.submit(each, 0) for each in (report, report, work)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                finished.set()
            reads = [reader.result() for reader in readers]
    assert faults == []
    assert {written.version for written in reported.values()} == {201}
    assert {written.version for written in simulated.values()} == {5}
    assert min(reads) > 20
    assert hits() > before


def test_without_redis_the_database_answers(tracking: Tracking, pool: ConnectionPool) -> None:
    caller = Callers(tracking, pool, redis_url="redis://127.0.0.1:1/0").make(tenant="shop")
    order = caller.place()["id"]
    for _ in range(3):
        assert len(caller.events(order)) == 1
