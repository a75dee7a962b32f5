"""What is measured, each on a system of its own that starts empty."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from benchmarks.system import Processes, System, wait_for
from slimtrack.domain.access import Scope
from slimtrack.domain.order import (
    JOURNEY,
    Flow,
    NewOrder,
    Order,
    Status,
    new_order_id,
    new_order_ids,
)
from slimtrack.domain.report import Report
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking

_BATCH = 500
#: Orders in one request, as many as there may be.
_BULK = 1_000
#: Seconds that filling the outbox may take before the first row is due.
_FILLING = 12.0
_EVENTS = 1 + len(JOURNEY)


class FaultError(Exception):
    """The system did not do what it was measured at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A figure, and what else was seen; ``notes`` are for people."""

    figure: float
    notes: dict[str, float] = field(default_factory=dict)


def whole_orders(system: System, *, orders: int, set_size: int) -> Result:
    """Measure orders per second from a filled outbox to the last delivery, without delays.

    All orders become due at one moment, when every process already runs; from then on the clock
    runs, until the outbox is empty. CPU is in microseconds per order.
    """
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0", SLIMTRACK_SET_SIZE=str(set_size)) as processes,
        system.connect() as database,
    ):
        _fill(processes, orders=orders, delay=_FILLING)
        row = database.execute("SELECT min(available_at), max(available_at) FROM outbox").fetchone()
        if not row or row[0] <= datetime.now(UTC):
            raise FaultError("The first rows were due before the outbox was filled.")
        wait_for((row[1] - datetime.now(UTC)).total_seconds())
        started, cpu, servers = time.perf_counter(), processes.cpu(), system.server_cpu()
        while database.execute("SELECT FROM outbox LIMIT 1").fetchone() is not None:
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        spent = {name: seconds - servers[name] for name, seconds in system.server_cpu().items()}
        spent["python"] = processes.cpu() - cpu
        wrong = database.execute(
            "SELECT count(*) FROM (SELECT FROM orders LEFT JOIN order_events ON order_id = id"
            " GROUP BY id HAVING count(*) <> %(n)s OR min(sequence) <> 1 OR max(sequence) <> %(n)s"
            " OR orders.status <> 'delivered') AS faulty",
            {"n": _EVENTS},
        ).fetchone()
        if wrong != (0,):
            raise FaultError(f"{wrong} orders were not delivered with {_EVENTS} events.")
    return Result(
        figure=orders / seconds,
        notes={f"{name} µs": 1e6 * each / orders for name, each in spent.items() if each},
    )


def first_stage(system: System, *, rate: float, seconds: float) -> tuple[Result, Result]:
    """Measure the seconds from the 201 to the first stage applied, at a fixed rate over HTTP.

    Open loop: requests leave on schedule, whatever became of those before. The end is seen from
    outside, by asking the database every 2 ms for events that it shows: it lies up to 2 ms
    after the commit, never before it. Returns the median and the 99th percentile.
    """
    answered: dict[UUID, float] = {}
    applied: dict[UUID, float] = {}
    total = int(rate * seconds)
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0,3600,0,0") as processes,
        system.connect() as database,
    ):
        begin = time.perf_counter() + 0.5
        senders = [
            threading.Thread(
                target=_send, args=(processes.api_url, answered, begin, rate, range(n, total, 16))
            )
            for n in range(16)
        ]
        for sender in senders:
            sender.start()
        deadline = begin + seconds + 30
        while len(applied) < total and time.perf_counter() < deadline:
            fresh = database.execute(
                "SELECT order_id FROM order_events"
                " WHERE sequence = 2 AND occurred_at > now() - interval '5 s'"
            ).fetchall()
            now = time.perf_counter()
            for (order_id,) in fresh:
                applied.setdefault(order_id, now)
            time.sleep(0.002)
        for sender in senders:
            sender.join()
    if len(applied) < total or len(answered) < total:
        raise FaultError(f"Of {total} orders {len(answered)} were placed, {len(applied)} moved.")
    delays = sorted(max(0.0, applied[each] - answered[each]) for each in applied)
    notes = {"orders": float(total)}
    return (
        Result(figure=1000 * statistics.median(delays), notes=notes),
        Result(figure=1000 * delays[int(0.99 * len(delays))], notes=notes),
    )


def waiting_orders(system: System, *, orders: int) -> Result:
    """Measure the CPU seconds that workers and publisher take in 10 s while orders only wait.

    The delay is a minute; no message may be in a queue or at a worker.
    """
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="60") as processes,
        system.connect() as database,
    ):
        before = processes.memory("worker", "publisher")
        _fill(processes, orders=orders, delay=60.0)
        time.sleep(2)
        cpu = processes.cpu()
        time.sleep(10)
        spent = processes.cpu() - cpu
        after = processes.memory("worker", "publisher")
        row = database.execute(
            "SELECT count(*), count(*) FILTER (WHERE published_at IS NULL),"
            " count(*) FILTER (WHERE available_at <= now()) FROM outbox"
        ).fetchone()
        if row != (orders, orders, 0):
            raise FaultError(f"Of {orders} orders, these wait, unpublished, are due: {row}.")
    return Result(
        figure=spent,
        notes={
            "waiting": float(row[0]),
            "published": float(row[0] - row[1]),
            "MB more": (after - before) / 1e6,
        },
    )


def bulk_orders(system: System, *, orders: int) -> tuple[Result, Result]:
    """Measure orders accepted per second by the bulk endpoint, and by its statement alone.

    One client process with eight connections and an API key, whose requests are counted, sends
    1,000 orders a request to two gunicorn workers; then the client calls the statement itself, on
    two connections: that is the limit for one that would rather not speak HTTP. Nobody works
    on the orders meanwhile.
    """
    body = json.dumps([{"description": "A parcel"}] * _BULK).encode()
    with (
        system.api(SLIMTRACK_AUTH="on", SLIMTRACK_RATE_LIMIT="1000000") as api,
        open_pool(
            api.settings.database_url, application_name="bench", size=2, options={}, timeout=5
        ) as pool,
        system.connect() as database,
    ):
        token = Access(pool).create_key(tenant="default", name="bench", scopes=[Scope.ORDERS_WRITE])
        tracking = Tracking(
            pool, wake_up=lambda: None, schedule=Schedule(api.settings.stage_delays)
        )

        def send(times: int) -> int:
            return _send_bulk(api.api_url, body, times, token=token)

        def place(times: int) -> int:
            for _ in range(times):
                tracking.place_many(
                    [NewOrder(id=each, description="A parcel") for each in new_order_ids(_BULK)]
                )
            return times * _BULK

        def measure(work: Callable[[int], int], *, threads: int) -> Result:
            with ThreadPoolExecutor(threads) as callers:
                list(callers.map(work, [1] * threads))  # connections, prepared statements
                cpu, servers = api.cpu(), system.server_cpu()
                started = time.perf_counter()
                placed = sum(callers.map(work, [orders // threads // _BULK] * threads))
                seconds = time.perf_counter() - started
            spent = {name: now - servers[name] for name, now in system.server_cpu().items()}
            spent["api"] = api.cpu() - cpu
            return Result(
                figure=placed / seconds,
                notes={f"{name} µs": 1e6 * each / placed for name, each in spent.items() if each},
            )

        over_http = measure(send, threads=8)
        alone = measure(place, threads=2)
        row = database.execute(
            "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)"
        ).fetchone()
    expected = sum((orders // each // _BULK + 1) * each * _BULK for each in (8, 2))
    if row != (expected, expected):
        raise FaultError(
            f"{expected} orders were placed; of orders and outbox rows there are {row}."
        )
    return over_http, alone


def _send_bulk(api_url: str, body: bytes, times: int, *, token: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(api_url).netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    placed = 0
    for _ in range(times):
        connection.request("POST", "/api/orders/bulk", body, headers)
        placed += int(json.loads(connection.getresponse().read())["placed"])
    connection.close()
    return placed


def histories(system: System, *, reads: int) -> tuple[Result, Result, Result, Result]:
    """Measure the microseconds of reading a history of 5 events, and of one of 50.

    From PostgreSQL: the statement and the encoding. Through Redis: the version from PostgreSQL,
    then the history, which is there. Interleaved, in one thread.
    """
    figures: list[Result] = []
    with (
        system.api() as api,
        open_pool(
            api.settings.database_url, application_name="bench", size=1, options={}, timeout=5
        ) as pool,
    ):
        tracking = Tracking(
            pool, wake_up=lambda: None, schedule=Schedule(api.settings.stage_delays)
        )
        cache = HistoryCache(api.settings.redis_url)
        for events in (5, 50):
            order = tracking.place(
                NewOrder(id=new_order_id(), description="A parcel", flow=Flow.REPORTED)
            )
            target = Target(order=order.id, tenant_id=None)
            with pool.connection() as connection:
                changes = Changes(
                    connection, schedule=Schedule({}), fan_out=False, answer_lifetime=0
                )
                for _ in range(events - 1):
                    changes.report(target, Report(status=Status.RECEIVED))
            spent = [0.0, 0.0]
            cached = b""
            for _ in range(reads):
                started = time.perf_counter()
                read = msgspec.json.encode(tracking.history(order.id))
                between = time.perf_counter()
                version = tracking.version(order.id)
                cached = cache.get(order.id, version=version) or b""
                spent[0] += between - started
                spent[1] += time.perf_counter() - between
                if not cached:
                    cache.put(order.id, version=version, history=read)
            if cached != read:
                raise FaultError("The cache did not give what was put into it.")
            figures += [Result(figure=1e6 * each / reads) for each in spent]
    return figures[0], figures[1], figures[2], figures[3]


def _fill(processes: Processes, *, orders: int, delay: float) -> None:
    settings = processes.settings
    with open_pool(
        settings.database_url, application_name="bench", size=1, options={}, timeout=5
    ) as pool:
        delays = {**settings.stage_delays, JOURNEY[0]: delay}
        tracking = Tracking(pool, wake_up=lambda: None, schedule=Schedule(delays))
        for start in range(0, orders, _BATCH):
            size = min(_BATCH, orders - start)
            placed = tracking.place_many(
                [NewOrder(id=new_order_id(), description="A parcel") for _ in range(size)]
            )
            if not all(isinstance(each, Order) for each in placed):
                raise FaultError("An order was not placed.")


def _send(
    api_url: str, answered: dict[UUID, float], begin: float, rate: float, numbers: range
) -> None:
    connection = http.client.HTTPConnection(urlsplit(api_url).netloc, timeout=30)
    for number in numbers:
        wait_for(begin + number / rate - time.perf_counter())
        connection.request(
            "POST",
            "/api/orders",
            json.dumps({"description": f"Parcel {number}"}),
            {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        body = answer.read()
        now = time.perf_counter()
        if answer.status == http.HTTPStatus.CREATED:
            answered[UUID(json.loads(body)["id"])] = now
    connection.close()
