"""How soon orders flow as before when a server that crashed is back."""

import time
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed
from benchmarks.measures.flowing import check, drain, fill, find_oldest, last_row
from benchmarks.system import Database, System

#: Seconds in which it has to be so, and that the backlog has to last for.
_FLOOR: Final = 10.0
#: Seconds before the crash, and between two looks; how many of these are a span with a rate.
_BEFORE: Final = 3.0
_INTERVAL: Final = 0.25
_LOOKS: Final = 8
_ENOUGH: Final = 0.95


def crash_of_rabbitmq(system: System, scale: Scale) -> Figures:
    """Kill RabbitMQ in the middle of a backlog."""
    return _crash(system, scale, "rabbitmq")


def crash_of_postgresql(system: System, scale: Scale) -> Figures:
    """Kill PostgreSQL in the middle of a backlog."""
    return _crash(system, scale, "postgresql")


def _crash(system: System, scale: Scale, server: str) -> Figures:
    with system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes:
        fill(processes, orders=scale.backlog)
        with system.connect() as database:
            # From now on each page is written to the WAL as a whole once more, as after a crash.
            database.execute("CHECKPOINT")
            before = last_row(database)
            time.sleep(_BEFORE)
            nominal = (last_row(database) - before) / _BEFORE
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
    """Return when a span begins in which so much gets done; when the backlog ends, if none does.

    Raises:
        FaultError: the backlog was gone too soon to say.
    """
    began = time.monotonic()
    seen = [(0.0, last_row(database))]
    above = 0
    while (oldest := find_oldest(database, above=above)) is not None:
        above = oldest
        time.sleep(_INTERVAL)
        now = time.monotonic() - began, last_row(database)
        seen.append(now)
        since, progress = seen[max(0, len(seen) - 1 - _LOOKS)]
        if len(seen) > _LOOKS and now[1] - progress >= rate * (now[0] - since):
            return since
    if seen[-1][0] < _FLOOR:
        raise FaultError(f"The backlog was gone after {seen[-1][0]:.1f} s, too soon to say.")
    return seen[-1][0]


GROUP: Final = Group(
    name="recovery",
    what="After a fault",
    measures=(crash_of_rabbitmq, crash_of_postgresql),
    rows=tuple(
        Row(
            metric=f"after {name} was killed and is back: 95 % of the rate within",
            figure=f"{server}: seconds until 95 % of the rate",
            unit="s",
            floor=fixed(_FLOOR),
            target=fixed(5),
            at_most=True,
        )
        for server, name in (("rabbitmq", "RabbitMQ"), ("postgresql", "PostgreSQL"))
    ),
)
