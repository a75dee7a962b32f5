"""Real servers for the tests: private ones, started once; a database of its own for each test."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pika
import psycopg
import pytest
from clients import Caller, Callers
from isolation import delete_queues, own_database
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from psycopg import sql
from psycopg_pool import ConnectionPool

from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.migrate import migrate
from slimtrack.sql.pool import open_pool
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking

pytest_plugins = ["browsing", "millions"]

#: The files that take longest: they come first, or one worker would end with them alone.
_LONGEST: Final = ("test_openapi.py", "test_stack.py", "test_traces.py", "test_any_command.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--outage-seconds",
        type=float,
        default=30.0,
        help="how long the database crashes again and again (default: 30)",
    )
    group.addoption(
        "--nemesis",
        type=float,
        default=0.5,
        metavar="MINUTES",
        help="how long random faults happen (default: 0.5)",
    )
    group.addoption(
        "--fuzz-cases",
        type=int,
        default=5_000,
        help="how many requests the API is tried with (default: 5000)",
    )
    group.addoption("--seed", type=int, help="which faults happen (default: a new seed, printed)")


@pytest.fixture(scope="session")
def servers() -> Iterator[Mapping[str, str]]:
    """DATABASE_URL, AMQP_URL and REDIS_URL of private servers that stop with the tests."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-tests-") as folder:
        # The servers' users have to reach it.
        Path(folder).chmod(0o755)
        prepared = prepare_servers(Path(folder) / "state", environment={}, report=print)
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            supervisor.start(prepared.services)
            yield prepared.environment
        finally:
            supervisor.stop()


@pytest.fixture(scope="session")
def template(servers: Mapping[str, str]) -> str:
    """The name of a migrated database from which others are copied."""
    name = "slimtrack_template"
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(servers["DATABASE_URL"].rpartition("/")[0] + f"/{name}")
    return name


@pytest.fixture
def database_url(servers: Mapping[str, str], template: str) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    with own_database(servers["DATABASE_URL"], template) as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection in autocommit, to look at the tables."""
    with psycopg.connect(database_url, autocommit=True) as connected:
        yield connected


@pytest.fixture
def amqp_url(servers: Mapping[str, str]) -> str:
    """The broker, without any of our queues."""
    delete_queues(servers["AMQP_URL"])
    return servers["AMQP_URL"]


@pytest.fixture
def channel(amqp_url: str) -> Iterator[BlockingChannel]:
    """A channel to the broker, to look at the queues."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connected:
        yield connected.channel()


@pytest.fixture
def proxy(amqp_url: str) -> Iterator[Proxy]:
    """A network before the broker that does as it is told."""
    with Proxy(amqp_url) as running:
        yield running


@pytest.fixture
def environment(servers: Mapping[str, str], database_url: str, amqp_url: str) -> dict[str, str]:
    """The environment of a process that works on this test's database, without delays."""
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "REDIS_URL": servers["REDIS_URL"],
        "SLIMTRACK_STAGE_DELAYS": "0",
        "SLIMTRACK_AUTH": "off",
        "SLIMTRACK_LOG_FORMAT": "json",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings that ``environment`` makes."""
    return Settings.from_environment(environment)


@pytest.fixture
def pool(settings: Settings) -> Iterator[ConnectionPool]:
    """Two connections to this test's database."""
    with open_pool(
        settings.database_url, application_name="test", size=2, options={}, timeout=5
    ) as opened:
        yield opened


@pytest.fixture
def tracking(settings: Settings, pool: ConnectionPool) -> Tracking:
    """The use cases on this test's database; nobody publishes, nobody is woken up."""
    return Tracking(pool, wake_up=lambda: None, schedule=Schedule(settings.stage_delays))


@pytest.fixture
def retrying(pool: ConnectionPool) -> Retrying:
    """The use cases of failure on this test's database."""
    return Retrying(pool, wake_up=lambda: None)


@pytest.fixture
def callers(tracking: Tracking, pool: ConnectionPool, settings: Settings) -> Callers:
    """Callers of an API on this test's database."""
    return Callers(tracking, pool, redis_url=settings.redis_url)


@pytest.fixture
def caller(callers: Callers) -> Caller:
    """A caller who may do everything; reports move its orders."""
    return callers.make(tenant="shop")
