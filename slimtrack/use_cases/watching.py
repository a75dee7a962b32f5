"""The use case of watching: how the system fares, and what is wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from slimtrack.domain.order import Status
from slimtrack.domain.overview import (
    Overview,
    Sample,
    StageLoad,
    StatusCount,
    Trouble,
    TroubleKind,
)
from slimtrack.sql import dead_letters, processes, watching
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, snapshot
from slimtrack.use_cases.heartbeats import is_alive, who_works
from slimtrack.use_cases.holding import Held

#: Rows and orders that are counted, at most, of one kind.
LIMIT: Final = 1_000
#: Dead letters that are looked at for what failed lately, and causes that are shown.
_LETTERS: Final = 200
_CAUSES: Final = 8
#: Seconds for which a row may be due: twice the lease, as in deploy/prometheus/rules.yml.
LATE: Final = 60.0
#: Seconds for which it holds how many orders are where, and whether the servers answer.
_COUNTS_HOLD: Final = 2.0
_PROBES_HOLD: Final = 5.0
#: Seconds that a look waits for the servers to answer; what they say later, the next one tells.
_PROMPT: Final = 0.3
#: What is wrong where a server does not answer. Without PostgreSQL nothing is said at all.
_AWAY: Final = {"rabbitmq": TroubleKind.RABBITMQ_AWAY, "redis": TroubleKind.REDIS_AWAY}


class Watching:
    """Looks at how the system fares; for one that looks at a time.

    Every method raises ``UnavailableError`` where the database does not answer.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        servers: by name, whether the server answers; quick, and never raises.
    """

    def __init__(self, pool: Pool, *, servers: Mapping[str, Callable[[], bool]]) -> None:
        self._pool = pool
        self._servers = servers
        self._prober = ThreadPoolExecutor(1, "probes")
        self._probes = Held(self._probe, seconds=_PROBES_HOLD)
        self._up: Mapping[str, bool] = {}
        self._counts = Held(self._count, seconds=_COUNTS_HOLD)

    def look(self) -> Overview:
        """Return everything that the overview shows, all but the counts as of one moment."""
        self._probes.get()
        statuses = self._counts.get()
        with unavailable_if_away(), self._pool.connection() as connection, snapshot(connection):
            watching.prefer_indexes(connection)
            found = processes.list_processes(connection)
            stages = watching.measure_stages(connection, limit=LIMIT)
            waiting = dead_letters.count_waiting(connection, limit=LIMIT)
            failures = watching.list_failures(connection, most=_LETTERS, limit=_CAUSES)
            sample = watching.newest_sample(connection)
        alive = [each.kind for each in found if is_alive(each)]
        return Overview(
            troubles=list(
                _troubles(self._up, who_works(found), stages, waiting=waiting, sample=sample)
            ),
            processes={kind: alive.count(kind) for kind in ("api", "publisher", "worker")},
            statuses=statuses,
            stages=stages,
            dead_letters=waiting,
            failures=failures,
            sample=sample,
        )

    def samples(self, *, seconds: float) -> list[Sample]:
        """Return how the system fared in the last so many seconds, oldest first."""
        with unavailable_if_away(), self._pool.connection() as connection:
            return watching.list_samples(connection, seconds=seconds)

    def _probe(self) -> None:
        """Find out whether the servers answer, and wait no longer than one of them should take."""
        probing = self._prober.submit(self._ask_servers)
        with suppress(TimeoutError):
            probing.result(_PROMPT)

    def _count(self) -> dict[Status, StatusCount]:
        with unavailable_if_away(), self._pool.connection() as connection, snapshot(connection):
            watching.prefer_indexes(connection)
            return watching.count_statuses(connection, limit=LIMIT)

    def _ask_servers(self) -> None:
        for name, answers in self._servers.items():
            self._up = {**self._up, name: answers()}


def _troubles(
    up: Mapping[str, bool],
    working: Mapping[str, bool | None],
    stages: Mapping[Status, StageLoad],
    *,
    waiting: Mapping[str, int],
    sample: Sample | None,
) -> Iterator[Trouble]:
    """Yield what is wrong, the worst first."""
    away = {_AWAY[name] for name, answers in up.items() if name in _AWAY and not answers}
    if TroubleKind.RABBITMQ_AWAY in away:
        yield Trouble(TroubleKind.RABBITMQ_AWAY)
    for name, works in working.items():
        if works is False and name == "publisher":
            yield Trouble(TroubleKind.PUBLISHER_AWAY)
        elif works is False:
            yield Trouble(TroubleKind.WORKER_AWAY, name)
    for stage, load in stages.items():
        if load.oldest_due > LATE:
            yield Trouble(TroubleKind.ROWS_WAIT, stage, load.oldest_due)
    if sample and sample.stuck:
        yield Trouble(TroubleKind.ORDERS_STUCK, figure=sample.stuck)
    if letters := sum(waiting.values()):
        yield Trouble(TroubleKind.DEAD_LETTERS, figure=letters)
    if TroubleKind.REDIS_AWAY in away:
        yield Trouble(TroubleKind.REDIS_AWAY)
