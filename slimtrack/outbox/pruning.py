"""Pruning: what is too old to be of use is deleted."""

from typing import Final

import structlog

from slimtrack.outbox.outages import tolerated
from slimtrack.sql import idempotency, processes, watching
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.heartbeats import FORGOTTEN_AFTER

_log: Final = structlog.get_logger()

#: Rows that one statement deletes, at most.
_LIMIT: Final = 5_000


class Pruning:
    """Deletes what is too old; any number of copies may run.

    That is answers to commands whose keys are forgotten, processes that went without a word, and
    samples.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        answer_lifetime: seconds for which an idempotency key is remembered.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        answer_lifetime: float,
    ) -> None:
        self._pool = pool
        self._answer_lifetime = answer_lifetime

    def prune(self) -> int:
        """Delete what is too old; return how many rows."""
        pruned = 0
        with tolerated(), self._pool.connection() as connection:
            while batch := idempotency.prune_answers(
                connection, lifetime=self._answer_lifetime, limit=_LIMIT
            ):
                pruned += batch
            processes.prune_processes(connection, silence=FORGOTTEN_AFTER)
            watching.prune_samples(connection)
        if pruned:
            _log.info("answers.pruned", answers=pruned)
        return pruned
