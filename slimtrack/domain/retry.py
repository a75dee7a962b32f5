"""Failed work and when it is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass

from slimtrack.domain.errors import SlimTrackError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often failed work is tried again, and after how many seconds."""

    max_retries: int
    min_backoff: float
    max_backoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Outbox rows whose work ended with ``error``."""

    ids: Sequence[int]
    error: BaseException


class SetFailedError(SlimTrackError):
    """Some rows of a set failed; the others are done."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        count = sum(len(failure.ids) for failure in failures)
        super().__init__(f"{count} rows of the set failed, the first with: {failures[0].error}")
        self.failures = failures
