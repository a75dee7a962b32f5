"""How soon orders flow as before when a server that crashed is back."""

import time
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed
from benchmarks.measures.flowing import check, drain, fill, is_drained
from benchmarks.system import Database, System

_ORDERS: Final = 100_000
#: Seconds before the crash; of a span whose rate is looked at; that the watch ends after.
_BEFORE: Final = 3.0
_SPAN: Final = 2.0
_LONGEST: Final = 30.0
_INTERVAL: Final = 0.25
_ENOUGH: Final = 0.95


def crash_of_rabbitmq(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - one size
    """Kill RabbitMQ in the middle of a backlog."""
    return _crash(system, "rabbitmq")


def crash_of_postgresql(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - one size
    """Kill PostgreSQL in the middle of a backlog."""
    return _crash(system, "postgresql")


def _crash(system: System, server: str) -> Figures:
    with system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes:
        fill(processes, orders=_ORDERS)
        with system.connect() as database:
            before = _progress(database)
            time.sleep(_BEFORE)
            nominal = (_progress(database) - before) / _BEFORE
        crashed = time.monotonic()
        system.crash(server)
        back = time.monotonic()
        with system.connect() as database:
            seconds = _seconds_until(database, _ENOUGH * nominal)
            drain(database)
            check(database)
    return {
        f"{server}: seconds until 95 % of the rate": seconds,
        f"{server}: seconds away": back - crashed,
        f"{server}: stages/s before": nominal,
    }


def _seconds_until(database: Database, rate: float) -> float:
    """Return when a span begins in which so much gets done.

    Raises:
        FaultError: none did before the backlog was gone.
    """
    began = time.monotonic()
    seen = [(0.0, _progress(database))]
    while seen[-1][0] < _LONGEST:
        time.sleep(_INTERVAL)
        now = time.monotonic() - began, _progress(database)
        seen.append(now)
        earlier = [each for each in seen if now[0] - each[0] >= _SPAN]
        if now[1] == seen[-2][1] and is_drained(database):
            raise FaultError(f"The backlog was gone before {rate:,.0f} stages/s were seen again.")
        if earlier:
            since, progress = earlier[-1]
            if now[1] - progress >= rate * (now[0] - since):
                return since
    raise FaultError(f"{rate:,.0f} stages/s were not seen again in {_LONGEST:g} s.")


def _progress(database: Database) -> int:
    """Return how many outbox rows there ever were: three of four stages make one."""
    row = database.execute("SELECT last_value FROM outbox_id_seq").fetchone()
    return int(row[0]) if row else 0


GROUP: Final = Group(
    name="recovery",
    what="After a fault",
    measures=(crash_of_rabbitmq, crash_of_postgresql),
    rows=tuple(
        Row(
            metric=f"after {name} was killed and is back: 95 % of the rate within",
            figure=f"{server}: seconds until 95 % of the rate",
            unit="s",
            floor=fixed(10),
            target=fixed(5),
            at_most=True,
        )
        for server, name in (("rabbitmq", "RabbitMQ"), ("postgresql", "PostgreSQL"))
    ),
)
