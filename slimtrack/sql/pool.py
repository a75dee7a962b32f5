"""Connections to PostgreSQL."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from slimtrack.sql.connection import Connection
from slimtrack.sql.errors import is_infrastructure
from slimtrack.telemetry import metrics

Pool = ConnectionPool[Connection]

T = TypeVar("T")

#: A dead peer is noticed in 10 s, whatever state the connection is in.
_NETWORK: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: Seconds that somebody waits for a connection who asks whether there is one.
_PROMPT: Final = 1.0

#: For the processes that work on the outbox. It is nearly always empty when it is analysed, so
#: the planner prefers plans that are ruinous on a full one: scans of a whole table, and nested
#: loops over the rows of a set (half the time of a set of 100). No statement is worth compiling.
OUTBOX_PLANS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_nestloop": "off",
    "jit": "off",
}


def conninfo(database_url: str, *, application_name: str, options: Mapping[str, str]) -> str:
    """Return the connection string with our time-outs and the session's settings in it."""
    session = " ".join(f"-c {name}={value}" for name, value in options.items())
    return make_conninfo(
        database_url, application_name=application_name, options=session, **_NETWORK
    )


def open_pool(
    database_url: str,
    *,
    application_name: str,
    size: int,
    options: Mapping[str, str],
    timeout: float,
    reconnect_timeout: float = 0.0,
) -> Pool:
    """Open a pool that connects in the background; never before a fork.

    Args:
        database_url: where PostgreSQL is.
        application_name: what pg_stat_activity shows.
        size: connections, all kept open.
        options: settings of each session.
        timeout: seconds to wait for a free connection before a ``PoolTimeout``.
        reconnect_timeout: seconds for which a connection that was lost is tried again, while
            those who wait for one do; 0 for whoever asks so often that each can try at once.
    """
    return ConnectionPool(
        conninfo(database_url, application_name=application_name, options=options),
        kwargs={"autocommit": True, "prepare_threshold": 0},
        min_size=size,
        timeout=timeout,
        reconnect_timeout=reconnect_timeout,
        name=application_name,
        open=True,
    )


def answers(pool: Pool) -> bool:
    """Whether PostgreSQL answers; quick, and never raises."""
    try:
        with pool.connection(timeout=_PROMPT) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def server_version(pool: Pool) -> str | None:
    """Return the version of PostgreSQL; None where it does not answer. Quick, and never raises."""
    try:
        with pool.connection(timeout=_PROMPT) as connection:
            found = connection.execute("SELECT current_setting('server_version')").fetchone()
    except psycopg.Error:
        return None
    return str(found[0]) if found else ""


def measure(pool: Pool) -> None:
    """Note how many connections there are, how many are used, and who waits for one."""
    stats = pool.get_stats()
    size = stats["pool_size"]
    metrics.POOL_CONNECTIONS.labels(pool.name).set(size)
    metrics.POOL_CONNECTIONS_USED.labels(pool.name).set(size - stats["pool_available"])
    metrics.POOL_WAITING.labels(pool.name).set(stats.get("requests_waiting", 0))


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Let all statements see the same moment, from the first one's on; they change nothing."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction():
            yield
    finally:
        connection.isolation_level = connection.read_only = None


def run(
    pool: Pool, work: Callable[[Connection], T], *, repeatable: Callable[[], bool] = lambda: True
) -> T:
    """Run work that may be repeated, a second time where its connection turns out dead.

    A restarted server leaves a pool full of connections that are closed and do not know it.

    Raises:
        psycopg.Error: the second time failed too, or there was none.
    """
    try:
        with pool.connection() as connection:
            return work(connection)
    except PoolTimeout:
        raise
    except psycopg.Error as error:
        if not is_infrastructure(error) or not repeatable():
            raise
    pool.check()
    with pool.connection() as connection:
        return work(connection)
