"""Failed work and when it is tried again."""

import hashlib
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from slimtrack.domain.errors import SlimTrackError


class PermanentError(SlimTrackError):
    """Raised by work that no further attempt can save: its row becomes a dead letter at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often failed work is tried again, and after how many seconds.

    Attributes:
        max_retries: attempts after the first.
        min_backoff: seconds before the first retry, doubled with every further one.
        max_backoff: seconds between two retries, at most.
        throws: errors after which there is no retry.
        retry_when: given the retries so far and the error, says whether there is another one;
            it takes the place of ``max_retries``.
    """

    max_retries: int
    min_backoff: float
    max_backoff: float
    throws: tuple[type[BaseException], ...] = (PermanentError,)
    retry_when: Callable[[int, BaseException], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Outbox rows whose work ended with ``error``; ``counted`` if the attempt was, beforehand."""

    ids: Sequence[int]
    error: BaseException
    counted: bool = False


class ProcessKilledError(SlimTrackError):
    """A row's work began, and its process did not live to tell of it."""

    def __init__(self) -> None:
        super().__init__("The process that worked on this row ended before the work did.")


class Suspect(NamedTuple):
    """An outbox row that may have ended its process; ``ended_process`` if its last attempt did.

    That is, if it was one of those that ran when the process ended.
    """

    id: int
    ended_process: bool


class SetFailedError(SlimTrackError):
    """Some rows of a set failed; the others are done."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        count = sum(len(failure.ids) for failure in failures)
        super().__init__(f"{count} rows of the set failed, the first with: {failures[0].error}")
        self.failures = failures


# What differs from one failure to the next of the same cause: ids, numbers, what is quoted.
_PARTICULAR: Final = re.compile(
    r"""[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|'[^']*'|"[^"]*"|\d+""", re.IGNORECASE
)


def without_particulars(text: str) -> str:
    """Return what an error says without ids, numbers and quoted text."""
    return _PARTICULAR.sub("?", text)


def fingerprint(error: BaseException) -> str:
    """Return the same 16 hexadecimal digits for failures of one cause.

    A cause is the error's type, what it says without ids, numbers and quoted text, and the
    function that raised it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    said = without_particulars(str(error))
    cause = f"{type(error).__qualname__}\n{said}\n{frames[-1].name if frames else ''}"
    return hashlib.sha256(cause.encode("utf-8", "replace")).hexdigest()[:16]
