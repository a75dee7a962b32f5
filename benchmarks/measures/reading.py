"""Histories, from PostgreSQL and through Redis."""

import time
from typing import Final

import msgspec

from benchmarks.figures import FaultError, Figures, Group, Scale
from benchmarks.system import System
from slimtrack.domain.order import Flow, NewOrder, Status, new_order_id
from slimtrack.domain.report import Report
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking

_READS: Final = 2_000


def histories(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - as many as it takes
    """Read a history of 5 events, and one of 50, both ways.

    From PostgreSQL: the statement and the encoding. Through Redis: the version from PostgreSQL,
    then the history, which is there. Interleaved, in one thread.
    """
    figures: dict[str, float] = {}
    with (
        system.api() as api,
        open_pool(
            api.settings.database_url, application_name="bench", size=1, options={}, timeout=5
        ) as pool,
    ):
        tracking = Tracking(
            pool, wake_up=lambda: None, schedule=Schedule(api.settings.stage_delays)
        )
        cache = HistoryCache(api.settings.redis_url)
        for events in (5, 50):
            order = tracking.place(
                NewOrder(id=new_order_id(), description="A parcel", flow=Flow.REPORTED)
            )
            target = Target(order=order.id, tenant_id=None)
            with pool.connection() as connection:
                changes = Changes(
                    connection, schedule=Schedule({}), fan_out=False, answer_lifetime=0
                )
                for _ in range(events - 1):
                    changes.report(target, Report(status=Status.RECEIVED))
            spent = [0.0, 0.0]
            cached = b""
            for _ in range(_READS):
                started = time.perf_counter()
                read = msgspec.json.encode(tracking.history(order.id))
                between = time.perf_counter()
                version = tracking.version(order.id)
                cached = cache.get(order.id, version=version) or b""
                spent[0] += between - started
                spent[1] += time.perf_counter() - between
                if not cached:
                    cache.put(order.id, version=version, history=read)
            if cached != read:
                raise FaultError("The cache did not give what was put into it.")
            figures[f"{events} events from PostgreSQL, µs"] = 1e6 * spent[0] / _READS
            figures[f"{events} events through Redis, µs"] = 1e6 * spent[1] / _READS
    return figures


GROUP: Final = Group(name="histories", what="Histories", measures=(histories,))
