"""Accepting orders over HTTP, one by one and in bulk, and what limits that."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, in_turn, median, share
from benchmarks.load import saturate
from benchmarks.pgbench import run_pgbench, script_of
from benchmarks.system import Processes, System
from slimtrack.domain.access import Scope
from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import DEFAULT_TENANT, JOURNEY, Flow, Status
from slimtrack.sql import statements
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.access import Access

#: With an API key whose requests are counted.
_SETTINGS: Final = {"SLIMTRACK_AUTH": "on", "SLIMTRACK_RATE_LIMIT": "1000000000"}
_CONNECTIONS: Final = 32
#: Orders in one request, as many as there may be; and requests at once.
_BULK: Final = 1_000
_CALLERS: Final = 8
_CLIENTS: Final = 8

_STATEMENT: Final = "B1 accept statement alone/s"
_POST: Final = "B2 same POST without SQL/s"

#: What the API sends of a plain order, as SQL.
_PLAIN: Final = {
    # As ids are made here: random ones would touch other pages of the indexes.
    "id": "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')"
    " || '7' || substr(gen_random_uuid()::text, 16))::uuid",
    "tenant_id": f"{DEFAULT_TENANT}",
    "reference": "NULL",
    "description": ":description",
    "metadata": "'{}'",
    "flow": f"'{Flow.SIMULATED}'",
    "outcome": "NULL",
    "correlation_id": "md5(:description::text)",
    "created_at": "now()",
    "status": f"'{Status.RECEIVED}'",
    "message": f"'{MESSAGES[Status.RECEIVED]}'",
    "next_stage": f"'{JOURNEY[0]}'",
    "next_delay": "3",
    "fan_out": "false",
}


def accept_statement_alone(system: System, scale: Scale) -> Figures:
    """B1: the statement that accepts an order, over 8 connections, by pgbench."""
    with system.nothing(), system.connect() as database:
        rate = run_pgbench(
            system,
            "\\set description random(1, 1000000000)\n"
            + script_of(statements.load("orders.sql")["place_order"], _PLAIN),
            clients=_CLIENTS,
            until=f"-T {scale.seconds:.0f}",
        )
        if database.execute("SELECT FROM outbox LIMIT 1").fetchone() is None:
            raise FaultError("pgbench placed no order.")
    return {_STATEMENT: rate}


def same_post_without_sql(system: System, scale: Scale) -> Figures:
    """B2: the same app, server, keys and limits, with a store that forgets what it is given."""
    with system.api(app="benchmarks.no_sql:create_app()", **_SETTINGS) as api:
        return {_POST: _accept(api, scale)}


def orders_one_by_one(system: System, scale: Scale) -> Figures:
    """Send orders one by one to two gunicorn workers, with an API key; nobody works on them."""
    with system.api(**_SETTINGS) as api, system.connect() as database:
        cpu, servers = api.cpu(), system.server_cpu()
        rate = _accept(api, scale)
        spent = {name: now - servers[name] for name, now in system.server_cpu().items()}
        spent["API"] = api.cpu() - cpu
        [placed] = database.execute("SELECT count(*) FROM orders").fetchone() or [0]
    return {"accepted/s": rate} | {
        f"accepted, µs of {name}": 1e6 * cost / placed for name, cost in spent.items() if cost
    }


def orders_in_bulk(system: System, scale: Scale) -> Figures:
    """Send 1,000 orders a request, over eight connections, to two gunicorn workers."""
    body = json.dumps([{"description": "A parcel"}] * _BULK).encode()
    requests = 5 * scale.orders // _BULK // _CALLERS
    with (
        system.api(**_SETTINGS) as api,
        system.connect() as database,
        ThreadPoolExecutor(_CALLERS) as callers,
    ):
        token = _key(api)

        def send(times: int) -> int:
            return _send_bulk(api.api_url, body, times, token=token)

        first = sum(callers.map(send, [1] * _CALLERS))  # connections, prepared statements
        began = time.monotonic()
        placed = sum(callers.map(send, [requests] * _CALLERS))
        seconds = time.monotonic() - began
        row = database.execute(
            "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)"
        ).fetchone()
        if row != (first + placed, first + placed):
            raise FaultError(f"{first + placed} orders were placed; there are rows: {row}.")
    return {"accepted in bulk/s": placed / seconds}


def _accept(api: Processes, scale: Scale) -> float:
    token = _key(api)
    saturate(api.api_url, connections=_CONNECTIONS, seconds=1, token=token)
    return saturate(api.api_url, connections=_CONNECTIONS, seconds=scale.seconds, token=token)


def _key(api: Processes) -> str:
    with open_pool(
        api.settings.database_url, application_name="bench", size=1, options={}, timeout=5
    ) as pool:
        return Access(pool).create_key(tenant="default", name="bench", scopes=[Scope.ORDERS_WRITE])


def _send_bulk(api_url: str, body: bytes, times: int, *, token: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(api_url).netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    placed = 0
    for _ in range(times):
        connection.request("POST", "/api/orders/bulk", body, headers)
        placed += int(json.loads(connection.getresponse().read())["placed"])
    connection.close()
    return placed


_ACCEPTING: Final = in_turn(_STATEMENT, _POST)

GROUP: Final = Group(
    name="accept",
    what="Accepting orders",
    measures=(
        accept_statement_alone,
        same_post_without_sql,
        orders_one_by_one,
        orders_in_bulk,
    ),
    rows=(
        Row(
            metric="accepted orders, one per request",
            figure="accepted/s",
            unit="/s",
            limit=_ACCEPTING,
            floor=share(0.70, _ACCEPTING),
            target=share(0.85, _ACCEPTING),
        ),
        Row(
            metric="accepted orders, bulk endpoint",
            figure="accepted in bulk/s",
            unit="/s",
            limit=median(_STATEMENT),
            floor=lambda medians: max(20_000.0, medians[_STATEMENT]),
            target=share(2.0, median(_STATEMENT)),
        ),
    ),
)
