"""One look that serves everybody who looks at the same time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """What was seen last, for a while; any thread may ask.

    That a look failed holds as long: whoever waited for it need not fail once more.

    Args:
        look: finds out; it is never called twice at a time.
        seconds: for which the answer holds.
    """

    def __init__(self, look: Callable[[], T], *, seconds: float) -> None:
        self._look = look
        self._seconds = seconds
        self._lock = threading.Lock()
        self._looked_at = -inf
        self._seen: Future[T] = Future()

    def get(self) -> T:
        """Return what there is to see, or raise what the look raised."""
        with self._lock:
            if time.monotonic() - self._looked_at > self._seconds:
                self._seen = self._try()
                self._looked_at = time.monotonic()
            seen = self._seen
        return seen.result()

    def _try(self) -> Future[T]:
        seen: Future[T] = Future()
        try:
            seen.set_result(self._look())
        except Exception as error:  # noqa: BLE001 - whoever asks is told
            seen.set_exception(error)
        return seen
