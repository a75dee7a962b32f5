"""The soak: a steady load for half an hour, and what it leaves behind."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Scale
from benchmarks.load import Answers, offer
from benchmarks.measures.flowing import check, drain
from benchmarks.measures.growing import table_bytes
from benchmarks.measures.responding import percentile
from benchmarks.system import Database, Processes, System

#: Orders a second, and how they come.
_RATE: Final = 250.0
_CONNECTIONS: Final = 32
#: Seconds until the load runs, those between two samples, and those between two looks at the
#: answers: the load must never wait for us to take them.
_SETTLING: Final = 5.0
_INTERVAL: Final = 5.0
_LOOK: Final = 0.1
#: Seconds until the last order has to be answered: longer, and the load was too much.
_PATIENCE: Final = 5.0
#: What the memory of a process of ours may be at the end, of that after a tenth of the time; and
#: the outbox's bytes in the last quarter, of those in the one before.
_MEMORY: Final = 1.2
_OUTBOX: Final = 1.1


def soak(system: System, scale: Scale) -> Iterator[Figures]:
    """Load the system steadily, and nothing beside."""
    return steady_load(system, scale, rate=_RATE, beside=lambda _: nullcontext())


def steady_load(
    system: System,
    scale: Scale,
    *,
    rate: float,
    bulk: int = 0,
    beside: Callable[[Processes], AbstractContextManager[None]],
) -> Iterator[Figures]:
    """Place orders at a rate, open loop, beside something; look at everything every 5 s."""
    seconds, each = 60 * scale.minutes, bulk or 1
    count, spans = int(rate / each * seconds), int((seconds - _SETTLING) / _INTERVAL)
    outbox: list[int] = []
    memory: list[Mapping[str, int]] = []
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes,
        system.connect() as database,
        beside(processes),
    ):
        with offer(
            processes.api_url, connections=_CONNECTIONS, rate=rate / each, count=count, bulk=bulk
        ) as answers:
            began = last = time.monotonic() + _SETTLING
            placed = len(_take(answers, until=began))
            for span in range(1, spans + 1):
                response = _take(answers, until=began + span * _INTERVAL)
                now = time.monotonic()
                if not response:
                    raise FaultError(f"After {placed} requests nothing was answered any more.")
                placed += len(response)
                sizes = table_bytes(database)
                outbox.append(sizes["outbox"])
                memory.append(processes.memory())
                yield {
                    "s": now - began,
                    "placed/s": each * len(response) / (now - last),
                    "delivered/s": _delivered(database) / _INTERVAL,
                    "POST p50, ms": 1000 * statistics.median(response),
                    "POST p99, ms": 1000 * percentile(response, 0.99),
                    **_megabytes(_by_kind(memory[-1]), "memory of {}, MB"),
                    **_megabytes(system.server_memory(), "memory of {}, MB"),
                    **_megabytes(sizes, "{} on disk, MB"),
                    **_outbox_rows(database),
                }
                last = now
            deadline = time.monotonic() + _PATIENCE
            while placed < count and time.monotonic() < deadline:
                placed += len(_take(answers, until=time.monotonic() + _LOOK))
        drain(database)
        check(database)
        stored = _orders(database)
        if (placed, stored) != (count, each * count):
            raise FaultError(
                f"Of {count} requests {placed} were answered, and {stored} orders are there."
            )
    _check_memory(memory[len(memory) // 10], memory[-1])
    _check_outbox(outbox)


def _take(answers: Answers, *, until: float) -> Sequence[float]:
    """Take the answers up to a moment; return the seconds that each of them took."""
    before = len(answers.response_times())
    while time.monotonic() < until:
        answers.take()
        time.sleep(_LOOK)
    return answers.response_times()[before:]


def _delivered(database: Database) -> int:
    """Count what was delivered since the last sample, without reading all that was before."""
    row = database.execute(
        "SELECT count(*) FROM order_statuses WHERE tenant_id = 1 AND status = 'delivered'"
        " AND updated_at > now() - make_interval(secs => %s)",
        [_INTERVAL],
    ).fetchone()
    return int(row[0]) if row else 0


def _orders(database: Database) -> int:
    row = database.execute("SELECT count(*) FROM orders WHERE flow = 'simulated'").fetchone()
    return int(row[0]) if row else 0


def _outbox_rows(database: Database) -> Figures:
    row = database.execute(
        "SELECT (SELECT count(*) FROM outbox), n_dead_tup"
        "  FROM pg_stat_user_tables WHERE relname = 'outbox'"
    ).fetchone()
    waiting, dead = row or (0, 0)
    return {"outbox rows": float(waiting), "dead outbox rows": float(dead)}


def _by_kind(memory: Mapping[str, int]) -> Mapping[str, int]:
    kinds: Counter[str] = Counter()
    for name, size in memory.items():
        kinds[name.split()[0]] += size
    return kinds


def _megabytes(sizes: Mapping[str, int], name: str) -> Figures:
    return {name.format(each): size / 1e6 for each, size in sizes.items()}


def _check_memory(early: Mapping[str, int], late: Mapping[str, int]) -> None:
    if early.keys() != late.keys():
        raise FaultError("A process ended, or was started, meanwhile.")
    for name, size in early.items():
        if late[name] > _MEMORY * size:
            raise FaultError(f"{name} grew from {size / 1e6:.1f} to {late[name] / 1e6:.1f} MB.")


def _check_outbox(sizes: Sequence[int]) -> None:
    """Compare the last two quarters: vacuum comes once a minute, so only their peaks count."""
    quarter = len(sizes) // 4
    before, last = max(sizes[-2 * quarter : -quarter]), max(sizes[-quarter:])
    if last > _OUTBOX * before:
        raise FaultError(f"The outbox grew from {before / 1e6:.1f} to {last / 1e6:.1f} MB on disk.")


GROUP: Final = Group(name="soak", what="A steady load", samples=soak)
