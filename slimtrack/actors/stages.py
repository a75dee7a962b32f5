"""The stage actors: each brings a set of orders to the status that its stage is named after."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import dramatiq

from slimtrack.domain.order import Status
from slimtrack.domain.retry import Failure, ProcessKilledError, RetryPolicy, SetFailedError
from slimtrack.retrying import Retrying
from slimtrack.routing import BY_STAGE
from slimtrack.sql.errors import is_infrastructure

#: Brings the orders of some outbox rows through a stage; raises, and then has changed nothing.
Advance = Callable[[Status, Sequence[int]], object]


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
    advance: Callable[[Sequence[int]], object],
    *,
    count_attempt: Callable[[int], bool],
) -> None:
    """Work on rows one by one, each attempt counted before it begins.

    For rows that were delivered or published before: one of them may have ended its process. A
    whole set is never counted, or its innocent rows would be given up with the guilty one.

    Raises:
        SetFailedError: some rows failed; all others are done.
    """
    failures: list[Failure] = []
    for index, row_id in enumerate(ids):
        counted = False
        try:
            counted = count_attempt(row_id)
            if counted:
                advance([row_id])
            else:
                failures.append(Failure(ids=[row_id], error=ProcessKilledError(), counted=True))
        except Exception as error:  # noqa: BLE001 - whatever the work raises is its row's failure
            failures.append(Failure(ids=[row_id], error=error, counted=counted))
            if is_infrastructure(error):
                failures.append(Failure(ids=ids[index + 1 :], error=error))
                break
    if failures:
        raise SetFailedError(failures)


def register(
    broker: dramatiq.Broker, *, advance: Advance, retrying: Retrying, policy: RetryPolicy
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
        )(_bring_to(stage, advance=advance, retrying=retrying, max_retries=policy.max_retries))


def _bring_to(
    stage: Status, *, advance: Advance, retrying: Retrying, max_retries: int
) -> Callable[..., None]:
    def bring_to(ids: list[int], *, again: bool = False) -> None:
        """Work on a set; ``again`` if one of its rows may have been worked on before."""
        if again:
            work_alone(
                retrying.least_suspicious_first(stage, ids),
                partial(advance, stage),
                count_attempt=partial(retrying.count_attempt, stage, max_retries=max_retries),
            )
        else:
            work_through(ids, partial(advance, stage))

    return bring_to
