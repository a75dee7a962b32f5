"""What it costs when nothing is to be done: idle, or a million orders that wait."""

import statistics
import time
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed, median
from benchmarks.measures.flowing import place
from benchmarks.system import Database, Processes, System
from slimtrack.sql.outbox import claim_due_rows

#: Seconds until processes that have just started are quiet, and those of a measure.
_SETTLING: Final = 6.0
_WATCHED: Final = 10.0
_DELAY: Final = 3_600.0
_FEW: Final = 1_000
_CLAIMS: Final = 200


def servers_alone(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - as long as it takes
    """B8: the CPU of servers that nobody asks for anything."""
    with system.connect() as database:
        database.execute("CHECKPOINT")
    time.sleep(_SETTLING / 2)
    before = sum(system.server_cpu().values())
    time.sleep(_WATCHED)
    spent = sum(system.server_cpu().values()) - before
    return {"B8 servers alone, % of a core": 100 * spent / _WATCHED}


def everything_idle(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - as above
    """CPU and statements of all processes and servers, events on, while no order is there."""
    with system.processes(SLIMTRACK_EVENTS="on") as processes:
        time.sleep(_SETTLING)
        servers, ours = sum(system.server_cpu().values()), processes.cpu()
        time.sleep(_WATCHED)
        ours = processes.cpu() - ours
        servers = sum(system.server_cpu().values()) - servers
        statements = system.statements(_WATCHED)
    return {
        "idle, % of a core": 100 * (ours + servers) / _WATCHED,
        "idle, % of a core in Python": 100 * ours / _WATCHED,
        "idle, statements/s": statements / _WATCHED,
    }


def idle_beyond_servers(figures: Figures) -> Figures:
    """What the idle system takes beyond its servers."""
    beyond = figures["idle, % of a core"] - figures["B8 servers alone, % of a core"]
    return {"idle, % of a core beyond B8": beyond}


def waiting_orders(system: System, scale: Scale) -> Figures:
    """Memory and the time of a claim, with a thousand orders that wait and with a million."""
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS=str(_DELAY)) as processes,
        system.connect() as database,
    ):
        place(processes, orders=_FEW, delay=lambda: _DELAY)
        time.sleep(_SETTLING)
        memory = processes.memory()
        few = _claim(database)
        place(processes, orders=scale.waiting - _FEW, delay=lambda: _DELAY)
        time.sleep(_SETTLING)
        cpu = processes.cpu()
        time.sleep(_WATCHED)
        cpu = processes.cpu() - cpu
        many = _claim(database)
        grown = _growth(processes, memory)
        row = database.execute(
            "SELECT count(*), count(*) FILTER (WHERE published_at IS NULL AND available_at > now())"
            " FROM outbox"
        ).fetchone()
        if row != (scale.waiting, scale.waiting):
            raise FaultError(f"Of {scale.waiting} orders, these are there, and wait: {row}.")
    return {
        "claim beside 1,000 waiting, µs": few,
        "claim beside a million waiting, µs": many,
        "claim, a million to a thousand": many / few,
        "memory that a process grew, MB": grown,
        "a million waiting, % of a core in Python": 100 * cpu / _WATCHED,
    }


def _claim(database: Database) -> float:
    """Return the microseconds in which one due row is found among all that wait."""
    database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off")
    spent = []
    for _ in range(_CLAIMS):
        with database.transaction(force_rollback=True):
            database.execute(
                "UPDATE outbox SET available_at = now() WHERE id = (SELECT min(id) FROM outbox)"
            )
            started = time.perf_counter()
            rows = claim_due_rows(database, bound=2_000, set_size=100).rows
            spent.append(time.perf_counter() - started)
            if len(rows) != 1:
                raise FaultError(f"One row was due, and {len(rows)} were claimed.")
    return 1e6 * statistics.median(spent)


def _growth(processes: Processes, before: dict[str, int]) -> float:
    """Return the megabytes by which the process that grew most did."""
    return max(size - before[name] for name, size in processes.memory().items()) / 1e6


IDLE: Final = Group(
    name="idle",
    what="Idle",
    measures=(servers_alone, everything_idle),
    together=idle_beyond_servers,
    rows=(
        Row(
            metric="idle: CPU beyond the servers' own",
            figure="idle, % of a core beyond B8",
            unit="% of a core",
            limit=median("B8 servers alone, % of a core"),
            floor=fixed(2),
            target=fixed(1),
            at_most=True,
        ),
        Row(
            metric="idle: statements",
            figure="idle, statements/s",
            unit="/s",
            floor=fixed(5),
            target=fixed(5),
            at_most=True,
        ),
    ),
)

#: Of the memory that says "flat", and of the time that says "the same".
_FLAT: Final = 10.0
_SAME: Final = 1.25

WAITING: Final = Group(
    name="waiting",
    what="Orders that wait for a delay",
    measures=(waiting_orders,),
    repeated=False,
    rows=(
        Row(
            metric="a million orders waiting: the claim, to the one beside a thousand",
            figure="claim, a million to a thousand",
            unit="times",
            floor=fixed(_SAME),
            target=fixed(1.1),
            at_most=True,
        ),
        Row(
            metric="a million orders waiting: memory that a process grew",
            figure="memory that a process grew, MB",
            unit="MB",
            floor=fixed(_FLAT),
            target=fixed(5),
            at_most=True,
        ),
    ),
)
