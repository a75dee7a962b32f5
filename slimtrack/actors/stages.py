"""The stage actors: each brings a set of orders to the status that its stage is named after."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import dramatiq

from slimtrack.domain.order import Status
from slimtrack.domain.retry import Failure, ProcessKilledError, RetryPolicy, SetFailedError
from slimtrack.routing import BY_STAGE
from slimtrack.sql.errors import is_infrastructure
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.working import Working


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
    ids: Sequence[int],
    advance: Callable[[int], object],
    *,
    begin_attempt: Callable[[int], bool],
) -> None:
    """Work on rows one by one, each attempt counted before it begins.

    For rows that were delivered or published before: one of them may have ended its process. A
    whole set is never counted, or its innocent rows would be given up with the guilty one. A
    row that did end its process is tried again later, when others that ran beside it are done.

    Raises:
        SetFailedError: some rows failed; all others are done.
    """
    failures: list[Failure] = []
    for index, row_id in enumerate(ids):
        counted = False
        try:
            counted = begin_attempt(row_id)
            if counted:
                advance(row_id)
        except ProcessKilledError as error:  # the attempt that did it was counted
            failures.append(Failure(ids=[row_id], error=error, counted=True))
        except Exception as error:  # noqa: BLE001 - whatever the work raises is its row's failure
            failures.append(Failure(ids=[row_id], error=error, counted=counted))
            if is_infrastructure(error):
                failures.append(Failure(ids=ids[index + 1 :], error=error))
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
) -> None:
    """Make the actor of every stage known to a broker."""
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
            _perform(stage, working=working, retrying=retrying)
            if working.has_work(stage)
            else _bring_to(stage, tracking=tracking, retrying=retrying)
        )


def _bring_to(stage: Status, *, tracking: Tracking, retrying: Retrying) -> Callable[..., None]:
    def bring_to(ids: list[int], *, again: bool = False) -> None:
        """Work on a set; ``again`` if one of its rows may have been worked on before."""
        if again:
            work_alone(
                retrying.least_suspicious_first(stage, ids),
                lambda row_id: tracking.advance(stage, [row_id]),
                begin_attempt=partial(retrying.begin_attempt, stage),
            )
        else:
            work_through(ids, partial(tracking.advance, stage))

    return bring_to


def _perform(stage: Status, *, working: Working, retrying: Retrying) -> Callable[..., None]:
    def perform(ids: list[int], *, again: bool = False) -> None:
        """Do the stage's work for each row; every attempt counts, whatever it ends with."""
        del again
        work_alone(
            retrying.least_suspicious_first(stage, ids),
            partial(working.perform, stage),
            begin_attempt=partial(retrying.begin_attempt, stage),
        )

    return perform
