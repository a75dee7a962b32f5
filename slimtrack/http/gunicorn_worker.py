"""The worker class of gunicorn: refuses in our words, and lets no request last for ever."""

import secrets
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import msgspec
from gunicorn.workers.gthread import ThreadWorker

from slimtrack.http.middleware import SECURITY_HEADERS
from slimtrack.http.problems import KINDS, MEDIA_TYPE, make_document
from slimtrack.settings import Settings

#: Seconds between two looks at the requests under way.
_LOOK: Final = 1.0

#: Connections that are closed at once.
_LEAVING: Final = 16

#: What gunicorn refuses by itself, and what we say of it.
_DETAILS: Final = {
    "malformed-request": "The request is not HTTP/1.1 as it should be, and was not read.",
    "forbidden": "Whoever passes this request on is not allowed to.",
    "path-too-long": "The first line of the request is too long.",
    "unmet-expectation": "Expect may only be 100-continue.",
    "headers-too-large": "A header is too long, or there are too many.",
    "unsupported-transfer-encoding": "The only Transfer-Encoding that is read here is chunked.",
    "internal-error": "Something went wrong on our side; the request_id leads to the cause.",
}
_KINDS: Final = {KINDS[kind]: kind for kind in _DETAILS}


class SlimWorker(ThreadWorker):
    """Decides as gunicorn does what is wrong with a request, and says it in our words.

    A request that takes too long is cut off: somebody who sends a byte now and then is never idle,
    and would hold a thread for ever. Connections are closed elsewhere than in the loop that serves
    all others: gunicorn waits up to 2 s for the other side to close its half.
    """

    def init_process(self) -> None:
        """Begin to watch, then to serve."""
        self._time_limit = Settings.from_environment().request_time_limit
        self._begun: dict[socket.socket, float] = {}
        threading.Thread(target=self._cut_overdue, name="overdue requests", daemon=True).start()
        self._leaving = ThreadPoolExecutor(_LEAVING, "leaving connections")
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Serve a request in the time that it may take."""
        self._begun[conn.sock] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._begun.pop(conn.sock, None)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep a connection, or close it."""
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
            return
        left = self._leaving.submit(conn.close, graceful=True)
        left.add_done_callback(lambda _: self.method_queue.defer(self._count_left))

    def _count_left(self) -> None:
        self.nr_conns -= 1

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer a request that cannot be read."""
        super().handle_error(req, _Translated(client), addr, exc)

    def _cut_overdue(self) -> None:
        while True:
            time.sleep(_LOOK)
            latest = time.monotonic() - self._time_limit
            for sock, begun in self._begun.copy().items():
                if begun < latest:
                    self._begun.pop(sock, None)
                    with suppress(OSError):  # it has ended by itself
                        sock.shutdown(socket.SHUT_RDWR)


class _Translated:
    """A socket that makes a problem document of the page that gunicorn sends."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def sendall(self, page: bytes) -> None:
        self._client.sendall(_problem(HTTPStatus(int(page.split(b" ", 2)[1]))))


def _problem(status: HTTPStatus) -> bytes:
    kind = _KINDS.get(status, "malformed-request")
    request_id = secrets.token_hex(16)
    body = msgspec.json.encode(make_document(kind, _DETAILS[kind], request_id=request_id))
    headers: Mapping[str, object] = {
        "Connection": "close",
        "Content-Type": MEDIA_TYPE,
        "Content-Length": len(body),
        "X-Request-ID": request_id,
        **SECURITY_HEADERS,
    }
    lines = [f"HTTP/1.1 {KINDS[kind].value} {KINDS[kind].phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
