"""A transaction that stays open: no vacuum may remove what it might still see."""

import statistics
import time
from typing import Final

from benchmarks.figures import Figures, Group, Row, Scale, fixed
from benchmarks.measures.flowing import check, drain, fill, last_row
from benchmarks.system import System


def open_transaction(system: System, scale: Scale) -> Figures:
    """Take orders through all stages, again and again, while a snapshot is held."""
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0") as processes,
        system.connect() as database,
        system.connect() as holder,
    ):

        def flow() -> float:
            above = last_row(database)
            fill(processes, orders=scale.orders)
            return scale.orders / drain(database, above=above)

        before = [flow() for _ in range(scale.runs)]
        with holder.transaction():
            holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT FROM orders LIMIT 1")
            began = time.monotonic()
            held = [flow()]
            while time.monotonic() < began + scale.held or len(held) < scale.runs:
                held.append(flow())
            seconds = time.monotonic() - began
            [dead] = database.execute(
                "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox'"
            ).fetchone() or [0]
        check(database)
    normal, last = statistics.median(before), statistics.median(held[-scale.runs :])
    return {
        "normal drain, orders/s": normal,
        "drain while a transaction is open, orders/s": last,
        "drain beside an open transaction": last / normal,
        "open for, s": seconds,
        "orders meanwhile": float(scale.orders * len(held)),
        "dead outbox rows at its end": float(dead),
    }


GROUP: Final = Group(
    name="transaction",
    what="An open transaction",
    measures=(open_transaction,),
    repeated=False,
    rows=(
        Row(
            metric="with a transaction held open 5 min, to the normal drain",
            figure="drain beside an open transaction",
            unit="times",
            floor=fixed(0.7),
            target=fixed(0.9),
        ),
    ),
)
