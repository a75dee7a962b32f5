"""The use case of stages with work: one order at a time, something outside happens first."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from contextvars import copy_context
from typing import Final

import psycopg
import structlog

from slimtrack import faults
from slimtrack.domain.order import Status
from slimtrack.domain.retry import PermanentError
from slimtrack.domain.traceparent import TracedRow
from slimtrack.domain.work import Assignment, StageWork, TimeLimitExceededError, WorkError
from slimtrack.routing import Schedule
from slimtrack.sql import orders, outbox
from slimtrack.sql.connection import Connection
from slimtrack.sql.pool import Pool
from slimtrack.telemetry import errors, metrics, tracing
from slimtrack.use_cases.measuring import count_advanced

_log: Final = structlog.get_logger()

#: Threads left behind after which the process is better replaced, and how it then ends
#: (EX_TEMPFAIL of sysexits.h).
_MOST_ABANDONED: Final = 20
_EXIT_CODE: Final = 75
#: What every line says that is written while a row is worked on, also those of the work itself.
_ABOUT: Final = ("order_id", "correlation_id", "stage", "attempt")


class Working:
    """Runs the work of stages and brings orders through them.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due; called after each commit.
        schedule: when each stage is due.
        fan_out: whether events are published for other services.
        works: the work of each stage that has some.
        time_limit: seconds that a work may take.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wake_up: Callable[[], None],
        schedule: Schedule,
        fan_out: bool = False,
        works: Mapping[Status, StageWork],
        time_limit: float,
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up
        self._schedule = schedule
        self._fan_out = fan_out
        self._works = works
        self._time_limit = time_limit
        self._abandoned: list[threading.Thread] = []

    def has_work(self, stage: Status) -> bool:
        """Whether a stage was given work."""
        return stage in self._works

    def perform(self, stage: Status, row_id: int) -> None:
        """Do a stage's work for one row, then bring its order through; repeats have no effect.

        The row is locked until all is done: another delivery of it waits, and finds it gone. An
        order that is not wanted any more when the work is done, or when it is tried again,
        leaves a row that undoes the work.

        Raises:
            psycopg.Error: nothing has changed.
            Exception: the work failed; nothing has changed here.
        """
        try:
            self._perform(stage, row_id)
        finally:
            structlog.contextvars.unbind_contextvars(*_ABOUT)

    def _perform(self, stage: Status, row_id: int) -> None:
        work = self._works[stage]
        done: tuple[orders.Advanced, orders.Observed] | None = None
        with (
            ExitStack() as recording,  # it ends after the commit
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            outbox.allow_work(connection, seconds=self._time_limit)
            row = outbox.lock_row(connection, row_id, stage=stage)
            if row is None:
                metrics.DUPLICATES[stage].inc()
                return
            about = (str(row.order_id), row.correlation_id, stage, row.attempts)
            structlog.contextvars.bind_contextvars(**dict(zip(_ABOUT, about, strict=True)))
            _record(recording, stage, row_id, row)
            order = orders.get_order(connection, row.order_id)
            assignment = order and Assignment(
                idempotency_key=f"{row.order_id}:{row.from_sequence}:{stage}",
                stage=stage,
                order=order,
                payload=row.payload,
                attempt=row.attempts,
                time_limit=self._time_limit,
                correlation_id=row.correlation_id,
            )
            if row.undo:
                if assignment:
                    self._call(_undo_of(work), assignment)
                    faults.point("work.after_undo")
                outbox.finish_undo(connection, row_id)
            else:
                if assignment and row.wanted:
                    faults.point("work.before_call")
                    self._call(work, assignment)
                    faults.point("work.after_call")
                done = self._advance(connection, stage, row_id)
                # Also where nothing was called just now: an attempt whose process died may have.
                if not done[0].moved and assignment and hasattr(work, "undo"):
                    outbox.add_undo(connection, row, stage=stage)
        self._wake_up()
        if done:
            count_advanced(stage, stage, *done)

    def _advance(
        self, connection: Connection, stage: Status, row_id: int
    ) -> tuple[orders.Advanced, orders.Observed]:
        advanced, observed = orders.advance_orders(
            connection,
            [row_id],
            stage=stage,
            following=self._schedule.after(stage),
            fan_out=self._fan_out,
            with_tests=True,
        )
        if not advanced.moved:
            _log.info("orders.unmoved", claimed=advanced.claimed, moved=0)
        return advanced, observed

    def _call(self, call: Callable[[Assignment], object], assignment: Assignment) -> None:
        """Call in a thread that can be left behind: nothing else ends a call that hangs."""
        outcome: Future[object] = Future()
        context = copy_context()

        def run() -> None:
            try:
                outcome.set_result(context.run(call, assignment))
            except psycopg.Error as error:  # of a database of the work's own
                outcome.set_exception(_as_work_error(error))
            except Exception as error:  # noqa: BLE001 - whatever it raises is a failed attempt
                outcome.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - SystemExit would end the worker's thread
                outcome.set_exception(_as_work_error(error))

        thread = threading.Thread(target=run, name=assignment.idempotency_key, daemon=True)
        thread.start()
        thread.join(self._time_limit)
        if thread.is_alive():
            self._abandon(thread)
            raise TimeLimitExceededError(self._time_limit)
        outcome.result()

    def _abandon(self, thread: threading.Thread) -> None:
        self._abandoned = [each for each in self._abandoned if each.is_alive()] + [thread]
        _log.error("work.abandoned", work=thread.name, threads=len(self._abandoned))
        if len(self._abandoned) >= _MOST_ABANDONED:
            _log.critical("worker.crippled", threads=[each.name for each in self._abandoned])
            errors.flush()
            os._exit(_EXIT_CODE)


def _record(recording: ExitStack, stage: Status, row_id: int, row: outbox.LockedRow) -> None:
    """Record the work on a row, if it is traced, until the end of all."""
    tracer = tracing.active()
    if tracer and row.traceparent:
        traced = TracedRow(row.order_id, row.correlation_id, row.traceparent, row.attempts)
        recording.enter_context(tracer.work(row_id, traced, stage=stage))


def _undo_of(work: StageWork) -> Callable[[Assignment], object]:
    undo: Callable[[Assignment], object] | None = getattr(work, "undo", None)
    if undo is None:
        raise PermanentError("The stage's work has no undo any more.")
    return undo


def _as_work_error(error: BaseException) -> WorkError:
    wrapped = WorkError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
