"""The use cases of failure: what becomes of outbox rows whose work failed."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from slimtrack import faults
from slimtrack.domain.dead_letter import StoredDeadLetter
from slimtrack.domain.order import Status
from slimtrack.domain.retry import (
    Failure,
    ProcessKilledError,
    RetryPolicy,
    Suspect,
    fingerprint,
)
from slimtrack.domain.traceparent import TracedRow
from slimtrack.routing import BY_STAGE
from slimtrack.sql import outbox
from slimtrack.sql.connection import Connection
from slimtrack.sql.errors import is_infrastructure
from slimtrack.sql.pool import Pool, run
from slimtrack.telemetry import errors, metrics, tracing
from slimtrack.telemetry.scrubbing import first_line, without_quotations

_log: Final = structlog.get_logger()

#: Characters of an error and of a traceback that are kept.
_MAX_ERROR: Final = 2_000
_MAX_TRACEBACK: Final = 20_000


class Retrying:
    """Counts attempts, makes failed rows due again, and gives them up after the last.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due; called after each commit that made some.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wake_up: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up

    def least_suspicious_first(self, stage: Status, ids: Sequence[int]) -> list[Suspect]:
        """Return the rows of a set that still have something to do, by the attempts they took.

        Raises:
            psycopg.Error: the database does not answer.
        """
        with self._pool.connection() as connection:
            ordered = outbox.order_by_suspicion(connection, ids, stage=stage)
        metrics.DUPLICATES[stage].inc(len(ids) - len(ordered))
        return ordered

    def begin_attempt(self, stage: Status, row_id: int) -> bool:
        """Count an attempt in a transaction of its own, before it begins.

        False where there is nothing to do: the row is gone, or is not due any more.

        Raises:
            ProcessKilledError: an earlier attempt never had an outcome.
            psycopg.Error: nothing has changed.
        """
        with self._pool.connection() as connection:
            attempt = outbox.begin_attempt(connection, row_id, stage=stage)
        if attempt.left_open:
            raise ProcessKilledError
        faults.point("retry.after_count")
        return attempt.begun

    def settle(self, stage: Status, failures: Sequence[Failure], policy: RetryPolicy) -> None:
        """Make failed rows due again, or dead letters after their last attempt.

        A server's failure consumes no attempt. Running this twice settles once.

        Raises:
            psycopg.Error: nothing has changed.
        """
        outages = [failure for failure in failures if is_infrastructure(failure.error)]
        faulty = [failure for failure in failures if not is_infrastructure(failure.error)]
        route = BY_STAGE[stage]
        faults.point("retry.before_rearm")

        def work(connection: Connection) -> tuple[int, Sequence[outbox.Settled]]:
            with connection.transaction():
                delayed = 0
                for outage in outages:
                    delayed += outbox.rearm_rows(
                        connection,
                        outage.ids,
                        stage=stage,
                        counted=outage.counted,
                        error_type=type(outage.error).__qualname__,
                        error=_text(outage.error),
                        delay=policy.min_backoff,
                    )
                if not faulty:
                    return delayed, ()
                settled = outbox.fail_rows(
                    connection,
                    _failed_rows(connection, stage, faulty, policy),
                    stage=stage,
                    actor_name=route.actor_name,
                    queue_name=route.queue_name,
                    policy=policy,
                )
                return delayed, settled

        # After an outage every connection is dead: who gave up here would wait for 5 s.
        delayed, settled = run(self._pool, work)
        self._wake_up()
        _count(stage, settled, delayed=delayed)
        if outages:
            _log.warning(
                "set.delayed", stage=stage, rows=delayed, error=first_line(_text(outages[0].error))
            )
        causes = {row_id: failure.error for failure in faulty for row_id in failure.ids}
        for each in settled:
            _tell(stage, each, causes[each.id])
        faults.point("retry.after_rearm")


def _tell(stage: Status, settled: outbox.Settled, error: BaseException) -> None:
    """Say what came of a row; each has a line, as each has a caller who may ask."""
    line: dict[str, Any] = {
        "order_id": str(settled.order_id),
        "correlation_id": settled.correlation_id,
        "stage": stage,
        "attempt": settled.attempts,
        "error": without_quotations(_text(error)),
        "raised_in": _place_of(error),
    }
    tracer = tracing.active()
    if tracer and settled.traceparent:
        traced = TracedRow(
            settled.order_id, settled.correlation_id, settled.traceparent, settled.attempts
        )
        line |= tracer.fail(settled.id, traced, stage=stage, error=error)
    if settled.dead_letter is None:
        _log.warning("attempt.failed", **line)
        return
    _log.error("dead_letter.stored", **line, dead_letter=settled.dead_letter)
    letter = StoredDeadLetter(
        settled.dead_letter,
        settled.id,
        settled.order_id,
        settled.attempts,
        settled.correlation_id,
    )
    errors.report_dead_letters(error, [letter], stage=stage, trace_id=line.get("trace_id"))


def _place_of(error: BaseException) -> str | None:
    """Return where an error was raised; the dead letter has the whole traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else None


def _count(stage: Status, settled: Sequence[outbox.Settled], *, delayed: int) -> None:
    if delayed:
        metrics.DELAYS.labels(stage).inc(delayed)
    for each in settled:
        counter = metrics.DEAD_LETTERS if each.dead_letter else metrics.RETRIES
        counter.labels(stage, metrics.error_label(each.error_type)).inc()


def _text(error: BaseException) -> str:
    return _storable(f"{type(error).__name__}: {error}")[:_MAX_ERROR]


def _storable(text: str) -> str:
    """Return a text without what PostgreSQL does not take: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _failed_rows(
    connection: Connection, stage: Status, failures: Sequence[Failure], policy: RetryPolicy
) -> list[outbox.FailedRow]:
    attempts: dict[int, int] = {}
    if policy.retry_when:
        ids = [row_id for failure in failures for row_id in failure.ids]
        attempts = outbox.lock_attempts(connection, ids, stage=stage)
    return [
        _failed_row(row_id, failure, max_retries=_max_retries(policy, failure, attempts, row_id))
        for failure in failures
        for row_id in failure.ids
    ]


def _max_retries(
    policy: RetryPolicy, failure: Failure, attempts: Mapping[int, int], row_id: int
) -> int:
    if isinstance(failure.error, policy.throws):
        return 0
    if policy.retry_when is None or row_id not in attempts:
        return policy.max_retries
    retries = attempts[row_id] - failure.counted
    return retries + policy.retry_when(retries, failure.error)


def _failed_row(row_id: int, failure: Failure, *, max_retries: int) -> outbox.FailedRow:
    error = failure.error
    lines = _storable("".join(traceback.format_exception(error)))
    return outbox.FailedRow(
        row_id,
        failure.counted,
        max_retries,
        type(error).__qualname__,
        _text(error),
        lines[-_MAX_TRACEBACK:],
        fingerprint(error),
    )
