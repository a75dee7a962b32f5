"""Latency: from the 201 to the first stage applied, at half of the maximum load."""

import statistics
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, median, more
from benchmarks.load import offer, saturate
from benchmarks.measures.flowing import check, drain
from benchmarks.measures.noop import actor_that_does_nothing
from benchmarks.system import Database, Processes, System

_CONNECTIONS: Final = 32
#: Seconds between two looks at the database; and until the last order has to be seen.
_LOOK: Final = 0.002
_PATIENCE: Final = 30.0


def first_stage_at_half_load(system: System, scale: Scale) -> Figures:
    """Find the maximum first, then offer half of it, open loop.

    The maximum is what goes from one POST each to the last delivery, all processes at work.
    """
    with system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes, system.connect() as database:
        saturate(processes.api_url, connections=_CONNECTIONS, seconds=1)
        drain(database)
        rate = saturate(processes.api_url, connections=_CONNECTIONS, seconds=scale.seconds)
        # What was accepted and is not delivered yet counts as the time that it still takes.
        most = rate * scale.seconds / (scale.seconds + drain(database))
        figures = first_stage(processes, database, rate=most / 2, seconds=scale.seconds)
        drain(database)
        check(database)
    return {"most whole orders, one POST each/s": most, "offered/s": most / 2, **figures}


def first_stage(
    processes: Processes, database: Database, *, rate: float, seconds: float
) -> Figures:
    """Offer orders at a rate, and see when the first stage of each is applied.

    Requests leave on schedule, whatever became of those before. The end is seen from
    outside, by asking the database every 2 ms for the second event of every order that was
    answered: it lies up to 2 ms after the commit, never before it.
    """
    total = int(rate * seconds)
    waiting: dict[UUID, float] = {}
    delays: list[float] = []
    with offer(processes.api_url, connections=_CONNECTIONS, rate=rate, count=total) as answers:
        last = time.monotonic()
        while len(delays) < total:
            waiting |= answers.take()
            seen = _moved(database, list(waiting))
            now = time.monotonic()
            if seen:
                last = now
            elif now > last + _PATIENCE:
                raise FaultError(f"Of {total} orders {len(delays)} were seen to move.")
            delays += [now - waiting.pop(each) for each in seen]
            time.sleep(_LOOK)
        response = answers.response_times()
    return {
        "201 to first stage p50, ms": 1000 * statistics.median(delays),
        "201 to first stage p99, ms": 1000 * percentile(delays, 0.99),
        "POST p50, ms": 1000 * statistics.median(response),
        "POST p99, ms": 1000 * percentile(response, 0.99),
    }


def percentile(figures: Sequence[float], part: float) -> float:
    """Return the figure below which this part of them lies."""
    return sorted(figures)[int(part * len(figures))]


def _moved(database: Database, ids: list[UUID]) -> list[UUID]:
    rows = database.execute(
        "SELECT order_id FROM order_events WHERE order_id = ANY(%s) AND sequence = 2",
        [ids],
        prepare=True,
    )
    return [row[0] for row in rows]


_NOOP: Final = median("B7 publish to no-op actor, ms")

GROUP: Final = Group(
    name="latency",
    what="From accepting to the first stage",
    measures=(actor_that_does_nothing, first_stage_at_half_load),
    rows=(
        Row(
            metric="accepted to first stage applied, half load, p50",
            figure="201 to first stage p50, ms",
            unit="ms",
            limit=_NOOP,
            floor=more(_NOOP, 15),
            target=more(_NOOP, 5),
            at_most=True,
        ),
        Row(
            metric="accepted to first stage applied, half load, p99",
            figure="201 to first stage p99, ms",
            unit="ms",
            limit=_NOOP,
            floor=more(_NOOP, 100),
            target=more(_NOOP, 25),
            at_most=True,
        ),
    ),
)
