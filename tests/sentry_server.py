"""A Sentry that keeps what it is sent: an HTTP server that reads envelopes."""

import json
import threading
from typing import Any

from http_server import HttpServer, QuietHandler


class SentryServer(HttpServer):
    """Keeps the items of envelopes, by type, and every byte of them."""

    def __init__(self) -> None:
        self.items: list[tuple[str, dict[str, Any]]] = []
        self.received = b""
        self._lock = threading.Lock()
        kept = self

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                kept._keep(self.read_body())
                self.answer(200, body=b"{}")

        super().__init__(Handler)

    @property
    def dsn(self) -> str:
        return f"http://hush@127.0.0.1:{self.port}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [item for kind, item in self.items if kind == "event"]

    def _keep(self, envelope: bytes) -> None:
        _, _, rest = envelope.partition(b"\n")
        with self._lock:
            self.received += envelope
            while rest:
                header, _, rest = rest.partition(b"\n")
                described = json.loads(header)
                length = described["length"]
                self.items.append((described["type"], json.loads(rest[:length])))
                rest = rest[length:].lstrip(b"\n")
