"""A whole SlimTrack whose every word with PostgreSQL and RabbitMQ is counted."""

import http.client
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, LiteralString
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from observing import wait_until
from proxy import Proxy
from wire import AmqpWire, Counts, PostgresqlWire

from slimtrack import bootstrap
from slimtrack.domain.access import Scope
from slimtrack.settings import Settings
from slimtrack.stack.directory import free_ports
from slimtrack.stack.processes import plan_api, plan_publisher, plan_workers, with_metrics
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.supervisor import Supervisor

#: Counts statements, also those inside of others; nothing happens that nobody asked for.
_POSTGRESQL_OPTIONS: Final = (
    *("-c", "shared_preload_libraries=pg_stat_statements"),
    *("-c", "pg_stat_statements.track=all"),
    *("-c", "autovacuum=off"),
)
#: Whoever looks must not be the one who scans.
_OBSERVER: Final = "-c enable_seqscan=off -c enable_bitmapscan=off"
_ORDER: Final = {"description": "A parcel"}
BULK: Final = 1_000

#: Without the bytes of full-page images: they depend on when the last checkpoint was.
_WAL_BYTES: Final = """
SELECT sum(record_size)::float8 FROM pg_get_wal_stats(%s, pg_current_wal_flush_lsn())
"""
_KEY_LOOK_UPS: Final = """
SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
 WHERE query LIKE '%api_keys%' AND query NOT LIKE '%pg_stat_statements%'
"""


class Instrumented:
    """Its API and its tables.

    Orders wait until they are made due. So whoever accepts them is counted alone, and then the
    stages with full sets, however fast each of them is.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        *,
        wires: tuple[PostgresqlWire, AmqpWire],
        api: http.client.HTTPConnection,
        token: str,
    ) -> None:
        self._connection = connection
        self._wires = wires
        self._api = api
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}

    def counts(self) -> Counts:
        postgresql, amqp = self._wires
        # A process asks for a key again after half a second: a slow one for fewer orders.
        look_ups = Counts({("slimtrack api", "look-up"): value(self._connection, _KEY_LOOK_UPS)})
        return postgresql.counts() + amqp.counts() + look_ups

    def count(self, work: Callable[[], object]) -> tuple[Counts, float]:
        """Return what some work takes: the counts, and the bytes of WAL."""
        self._connection.execute("CHECKPOINT")
        before = self.counts()
        start = value(self._connection, "SELECT pg_current_wal_insert_lsn()")
        work()
        return self.counts() - before, value(self._connection, _WAL_BYTES, start)

    def place_single(self, orders: int) -> None:
        for _ in range(orders):
            self._post("/api/orders", _ORDER)

    def place_keyed(self, orders: int) -> None:
        for _ in range(orders):
            self._post("/api/orders", _ORDER, **{"Idempotency-Key": str(uuid4())})

    def place_bulk(self, requests: int) -> None:
        for _ in range(requests):
            self._post("/api/orders/bulk", [_ORDER] * BULK)

    def _post(self, path: str, body: object, **headers: str) -> None:
        self._api.request("POST", path, json.dumps(body), {**self._headers, **headers})
        answer = self._api.getresponse()
        said = answer.read()
        assert answer.status in {200, 201}, said

    def deliver(self) -> None:
        """Make every order due, and wait until nothing is left to do."""
        self._connection.execute(
            "UPDATE outbox SET available_at = now()"
            " WHERE stage = 'processing' AND published_at IS NULL"
        )
        self._connection.execute("NOTIFY slimtrack_outbox")
        wait_until(lambda: not value(self._connection, "SELECT count(*) FROM outbox"))


def value(connection: psycopg.Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters or None).fetchone()
    assert row
    return row[0]


@contextmanager
def instrumented_servers() -> Iterator[Mapping[str, str]]:
    """Start servers of one's own, migrated; yield the environment that names them."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-counters-") as folder:
        Path(folder).chmod(0o755)
        prepared = prepare_servers(Path(folder) / "state", environment={}, report=print)
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            supervisor.start(
                [
                    replace(each, command=each.command + _POSTGRESQL_OPTIONS)
                    if each.name == "postgresql"
                    else each
                    for each in prepared.services
                ]
            )
            environment = {
                **os.environ,
                **prepared.environment,
                "SLIMTRACK_API_BIND": f"127.0.0.1:{free_ports(1)[0]}",
                "SLIMTRACK_API_WORKERS": "1",
                "SLIMTRACK_API_THREADS": "2",
                "SLIMTRACK_AUTH": "on",
                "SLIMTRACK_RATE_LIMIT": "1000000",
                "SLIMTRACK_STAGE_DELAYS": "0",
                "SLIMTRACK_LOG_LEVEL": "warning",
            }
            bootstrap.migrate(Settings.from_environment(environment))
            yield environment
        finally:
            supervisor.stop()


@contextmanager
def observer(environment: Mapping[str, str]) -> Iterator[psycopg.Connection]:
    """Open a connection that is not counted, with the functions that count for the server."""
    with psycopg.connect(
        environment["DATABASE_URL"], autocommit=True, options=_OBSERVER
    ) as connection:
        for name in ("pg_stat_statements", "pg_walinspect"):
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        yield connection


@contextmanager
def instrumented_processes(
    environment: Mapping[str, str], connection: psycopg.Connection
) -> Iterator[Instrumented]:
    """Run everything, through networks that count; a first few orders are not counted."""
    with bootstrap.open_access(Settings.from_environment(environment)) as access:
        token = access.create_key(tenant="default", name="test", scopes=[Scope.ORDERS_WRITE])
    wires = PostgresqlWire(), AmqpWire()
    # Without TLS, which the proxy could not read.
    database_url = environment["DATABASE_URL"] + "?sslmode=disable&gssencmode=disable"
    with (
        Proxy(database_url, watch=wires[0].watch) as postgresql,
        Proxy(environment["AMQP_URL"], watch=wires[1].watch) as rabbitmq,
    ):
        counted = {**environment, "DATABASE_URL": postgresql.url, "AMQP_URL": rabbitmq.url}
        api = plan_api(
            {**counted, "SLIMTRACK_STAGE_DELAYS": "86400,0,0,0"},
            bind=environment["SLIMTRACK_API_BIND"],
        )
        supervisor = Supervisor(on_line=print)
        callers = http.client.HTTPConnection(urlsplit(api.address).netloc, timeout=60)
        try:
            # Measured as well: that must not cost a word.
            *workers, api = with_metrics(
                [plan_publisher(counted), *plan_workers(counted), api],
                bind=f"127.0.0.1:{free_ports(1)[0]}",
                api_bind=environment["SLIMTRACK_API_BIND"],
            )
            supervisor.start(workers, [api])
            system = Instrumented(connection, wires=wires, api=callers, token=token)
            # Every connection prepares its statements; the publisher's jobs run a first time.
            system.place_single(20)
            system.place_keyed(20)
            system.place_bulk(2)
            system.deliver()
            connection.execute("VACUUM ANALYZE")
            connection.execute("SELECT pg_stat_statements_reset(), pg_stat_reset()")
            yield system
        finally:
            callers.close()
            supervisor.stop()
