"""A carrier over HTTP that remembers every call: the ledger of effects outside (I6)."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Carrier:
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

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                key = self.path.rpartition("/")[2]
                self._answer(200 if carrier._book(key) else 503)

            def do_DELETE(self) -> None:
                carrier._cancel(self.path.rpartition("/")[2])
                self._answer(200)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._busy = busy
        self._meanwhile = meanwhile
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="carrier")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

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
