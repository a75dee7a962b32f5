"""The cache of histories: never behind what the database shows."""

import threading

import falcon.testing
from clients import Caller, Callers
from psycopg_pool import ConnectionPool

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


def test_no_reader_is_behind_a_writer(caller: Caller) -> None:
    # Each reader must see at least what was answered before it began to ask.
    order = caller.place()["id"]
    written = [1]
    finished = threading.Event()
    faults: list[str] = []
    reads = [0]

    def read() -> None:
        while not finished.is_set():
            least = written[0]
            events = caller.events(order)
            reads[0] += 1
            sequences = [event["sequence"] for event in events]
            if len(events) < least or sequences != list(range(1, len(events) + 1)):
                faults.append(f"{len(events)} events after {least} were written")

    threads = [threading.Thread(target=read) for _ in range(4)]
    before = hits()
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            answer: falcon.testing.Result = caller.command(
                order, "reports", {"status": "processing"}
            )
            if answer.status_code == 200:  # else there was no free connection
                written[0] = answer.json["version"]
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert written[0] > 50
    assert reads[0] > 50
    assert hits() > before


def test_without_redis_the_database_answers(tracking: Tracking, pool: ConnectionPool) -> None:
    caller = Callers(tracking, pool, redis_url="redis://127.0.0.1:1/0").make(tenant="shop")
    order = caller.place()["id"]
    for _ in range(3):
        assert len(caller.events(order)) == 1
