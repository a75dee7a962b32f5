"""The soak: a steady load for half an hour, and what it leaves behind."""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Scale
from benchmarks.load import offer
from benchmarks.measures.flowing import check, drain
from benchmarks.measures.growing import table_bytes
from benchmarks.measures.responding import percentile
from benchmarks.system import Database, System

_RATE: Final = 250.0
_CONNECTIONS: Final = 32
_INTERVAL: Final = 5.0
#: What our memory at the end may be of that after a tenth of the time; the outbox's bytes at the
#: end, of those at half time.
_MEMORY: Final = 1.2
_OUTBOX: Final = 1.1


def soak(system: System, scale: Scale) -> Iterator[Figures]:
    """Place 250 orders a second, open loop, and look at everything every 5 s."""
    samples: list[Figures] = []
    count = int(_RATE * 60 * scale.minutes)
    with system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes, system.connect() as database:
        with offer(processes.api_url, connections=_CONNECTIONS, rate=_RATE, count=count) as answers:
            began = last = time.monotonic()
            placed = delivered = seen = 0
            while placed < count:
                time.sleep(_INTERVAL)
                fresh = len(answers.take())
                placed += fresh
                now, before = time.monotonic(), delivered
                delivered = _delivered(database)
                response = answers.response_times()[seen:]
                seen += len(response)
                if not response:
                    raise FaultError(f"After {placed} orders nothing was answered any more.")
                samples.append(
                    {
                        "s": now - began,
                        "placed/s": fresh / (now - last),
                        "delivered/s": (delivered - before) / (now - last),
                        "POST p50, ms": 1000 * statistics.median(response),
                        "POST p99, ms": 1000 * percentile(response, 0.99),
                        **_megabytes(processes.memory_by_kind(), "memory of {}, MB"),
                        **_megabytes(system.server_memory(), "memory of {}, MB"),
                        **_megabytes(table_bytes(database), "{} on disk, MB"),
                        **_outbox(database),
                    }
                )
                yield samples[-1]
                last = now
        drain(database)
        check(database)
    _check_growth(samples)


def _delivered(database: Database) -> int:
    row = database.execute(
        "SELECT count(*) FROM order_statuses WHERE tenant_id = 1 AND status = 'delivered'"
    ).fetchone()
    return int(row[0]) if row else 0


def _outbox(database: Database) -> Figures:
    row = database.execute(
        "SELECT (SELECT count(*) FROM outbox), n_dead_tup"
        "  FROM pg_stat_user_tables WHERE relname = 'outbox'"
    ).fetchone()
    waiting, dead = row or (0, 0)
    return {"outbox rows": float(waiting), "dead outbox rows": float(dead)}


def _megabytes(sizes: dict[str, int], name: str) -> Figures:
    return {name.format(each): size / 1e6 for each, size in sizes.items()}


def _check_growth(samples: Sequence[Figures]) -> None:
    early, half, last = samples[len(samples) // 10], samples[len(samples) // 2], samples[-1]
    for name in ("memory of api, MB", "memory of publisher, MB", "memory of worker, MB"):
        if last[name] > _MEMORY * early[name]:
            raise FaultError(f"The {name}, grew from {early[name]:.0f} to {last[name]:.0f}.")
    name = "outbox on disk, MB"
    if last[name] > _OUTBOX * half[name]:
        raise FaultError(f"The {name}, grew from {half[name]:.1f} to {last[name]:.1f}.")


GROUP: Final = Group(name="soak", what="A steady load", samples=soak)
