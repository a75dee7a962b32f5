"""The stage actors: each brings a set of orders to the status that its stage is named after."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import dramatiq

from slimtrack.actors.lock import SharedLock
from slimtrack.domain.order import Status
from slimtrack.domain.retry import (
    Failure,
    ProcessKilledError,
    RetryPolicy,
    SetFailedError,
    Suspect,
)
from slimtrack.routing import BY_STAGE
from slimtrack.sql.errors import is_infrastructure
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.working import Working


class Turns(NamedTuple):
    """Who works beside whom in a process, and whether the process is to end."""

    lock: SharedLock
    stopping: threading.Event


def work_through(ids: Sequence[int], advance: Callable[[Sequence[int]], object]) -> None:
    """Work on a set at once; halve it where it fails, until what fails stands alone.

    When a server fails, the rows that are not done yet fail with it, and are not tried one by one.

    Raises:
        SetFailedError: some rows failed; all others are done.
    """
    failures: list[Failure] = []
    waiting = deque([ids])
    while waiting:
        part = waiting.popleft()
        try:
            advance(part)
        except Exception as error:  # noqa: BLE001 - whatever the work raises is its row's failure
            if is_infrastructure(error):
                undone = [row_id for each in (part, *waiting) for row_id in each]
                failures.append(Failure(ids=undone, error=error))
                break
            if len(part) == 1:
                failures.append(Failure(ids=part, error=error))
            else:
                middle = len(part) // 2
                waiting.extendleft((part[middle:], part[:middle]))
    if failures:
        raise SetFailedError(failures)


def work_alone(
    rows: Sequence[Suspect],
    advance: Callable[[int], object],
    *,
    begin_attempt: Callable[[int], bool],
    turns: Turns,
) -> None:
    """Work on rows one by one, each attempt counted before it begins.

    For rows that were delivered or published before: one of them may have ended its process. A
    whole set is never counted, or its innocent rows would be given up with the guilty one. A
    row whose last attempt had no outcome runs while no other thread of the process works on a
    row like these: so nothing is taken for the guilty one twice.

    Args:
        rows: what to work on, in this order.
        advance: does one row.
        begin_attempt: counts an attempt; False where there is nothing to do.
        turns: those of all threads of the process that do such work.

    Raises:
        SetFailedError: some rows failed; all others are done.
    """
    failures: list[Failure] = []
    for index, (row_id, ended_process) in enumerate(rows):
        counted = False
        try:
            with turns.lock.alone() if ended_process else turns.lock.shared() as waited:
                if waited and turns.stopping.is_set():
                    # Its time to end began before: the row is published again when its lease ends.
                    continue
                counted = begin_attempt(row_id)
                if counted:
                    advance(row_id)
        except ProcessKilledError as error:  # the attempt that did it was counted
            failures.append(Failure(ids=[row_id], error=error, counted=True))
        except Exception as error:  # noqa: BLE001 - whatever the work raises is its row's failure
            failures.append(Failure(ids=[row_id], error=error, counted=counted))
            if is_infrastructure(error):
                rest = [row.id for row in rows[index + 1 :]]
                failures.append(Failure(ids=rest, error=error))
                break
    if failures:
        raise SetFailedError(failures)


def register(
    broker: dramatiq.Broker,
    *,
    tracking: Tracking,
    working: Working,
    retrying: Retrying,
    policy: RetryPolicy,
    stopping: threading.Event,
) -> None:
    """Make the actor of every stage known to a broker; ``stopping`` is set when it is to end."""
    turns = Turns(SharedLock(), stopping)
    for stage, route in BY_STAGE.items():
        dramatiq.actor(
            actor_name=route.actor_name,
            queue_name=route.queue_name,
            broker=broker,
            max_retries=policy.max_retries,
            min_backoff=policy.min_backoff * 1000,
            max_backoff=policy.max_backoff * 1000,
            throws=policy.throws,
            retry_when=policy.retry_when,
        )(
            _perform(stage, working=working, retrying=retrying, turns=turns)
            if working.has_work(stage)
            else _bring_to(stage, tracking=tracking, retrying=retrying, turns=turns)
        )


def _bring_to(
    stage: Status, *, tracking: Tracking, retrying: Retrying, turns: Turns
) -> Callable[..., None]:
    def bring_to(ids: list[int], *, again: bool = False) -> None:
        """Work on a set; ``again`` if one of its rows may have been worked on before."""
        if again:
            work_alone(
                retrying.least_suspicious_first(stage, ids),
                lambda row_id: tracking.advance(stage, [row_id]),
                begin_attempt=partial(retrying.begin_attempt, stage),
                turns=turns,
            )
        else:
            work_through(ids, partial(tracking.advance, stage))

    return bring_to


def _perform(
    stage: Status, *, working: Working, retrying: Retrying, turns: Turns
) -> Callable[..., None]:
    def perform(ids: list[int], *, again: bool = False) -> None:
        """Do the stage's work for each row; every attempt counts, whatever it ends with."""
        del again
        work_alone(
            retrying.least_suspicious_first(stage, ids),
            partial(working.perform, stage),
            begin_attempt=partial(retrying.begin_attempt, stage),
            turns=turns,
        )

    return perform
