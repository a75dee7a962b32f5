"""A carrier over HTTP that remembers every call: the ledger of effects outside (I6)."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from http_server import HttpServer, QuietHandler


class Carrier(HttpServer):
    """Books under a key; the same key again is the same booking.

    Args:
        busy: seconds that every call takes.
        meanwhile: called with the key when a booking is made, before the answer.
    """

    def __init__(
        self, *, busy: float = 0.0, meanwhile: Callable[[str], object] = lambda _: None
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.bookings: set[str] = set()
        self.cancelled: set[str] = set()
        #: How many of the next calls fail.
        self.failing = 0
        self._lock = threading.Lock()
        carrier = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                key = self.path.rpartition("/")[2]
                self.answer(200 if carrier._book(key) else 503)

            def do_DELETE(self) -> None:
                carrier._cancel(self.path.rpartition("/")[2])
                self.answer(200)

        self._busy = busy
        self._meanwhile = meanwhile
        super().__init__(Handler)

    def _book(self, key: str) -> bool:
        with self._lock:
            self.calls[key] += 1
            if self.failing:
                self.failing -= 1
                return False
            self.bookings.add(key)
        time.sleep(self._busy)
        self._meanwhile(key)
        return True

    def _cancel(self, key: str) -> None:
        with self._lock:
            self.bookings.discard(key)
            self.cancelled.add(key)
