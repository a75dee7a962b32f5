"""Floors: where the search for due rows begins, behind the index entries of rows that are done.

While an old transaction is open, no vacuum may take those away, and every claim would walk past all
of them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: How much longer than a search without a floor one is kept.
_SHARE: Final = 20


class Floors(Generic[T]):
    """What the last search found out about where the next one may begin; None at first.

    A row that was committed late, or changed by hand, may lie below the floor. So that none is
    overlooked, the floor is dropped regularly; where the search without one takes long, more
    seldom, so that it takes a twentieth of the time at most.

    Args:
        lifetime: seconds for which a floor is kept, at least.
        clock: seconds that only go forward.
    """

    def __init__(self, *, lifetime: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._floor: T | None = None
        self._dropped_at = 0.0

    @contextmanager
    def search(self) -> Iterator[T | None]:
        """Yield where to begin."""
        started = self._clock()
        if started >= self._dropped_at:
            self._floor = None
        whole = self._floor is None
        yield self._floor
        if whole:
            ended = self._clock()
            # Whole seconds: a search that takes no time is no reason to keep one.
            self._dropped_at = ended + max(self._lifetime, int(_SHARE * (ended - started)))

    def move(self, floor: T | None) -> None:
        """Begin here from now on."""
        self._floor = floor

    def drop(self) -> None:
        """Look everywhere next time."""
        self._floor = None
