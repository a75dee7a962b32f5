"""A lock that many threads share, or one has alone (a readers-writer lock)."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class SharedLock:
    """Held by many at once or by one alone, who comes before all that ask for a share later."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._shares = 0
        self._waiting_alone = 0
        self._is_alone = False

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits to have it alone."""
        return self._waiting_alone > 0

    @contextmanager
    def shared(self) -> Iterator[bool]:
        """Hold it together with others; waits while one has it alone, or is to have it next.

        Gives whether that had to be waited for.
        """
        with self._condition:
            waited = self._is_alone or self.is_awaited
            self._condition.wait_for(lambda: not (self._is_alone or self.is_awaited))
            self._shares += 1
        try:
            yield waited
        finally:
            with self._condition:
                self._shares -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Hold it alone; waits until nobody else has it, and gives whether somebody had."""
        with self._condition:
            waited = self._is_alone or self._shares > 0
            self._waiting_alone += 1
            self._condition.wait_for(lambda: not (self._is_alone or self._shares))
            self._waiting_alone -= 1
            self._is_alone = True
        try:
            yield waited
        finally:
            with self._condition:
                self._is_alone = False
                self._condition.notify_all()
