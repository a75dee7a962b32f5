"""A Sentry that keeps what it is sent: an HTTP server that reads envelopes."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class SentryServer:
    """Keeps the items of envelopes, by type, and every byte of them."""

    def __init__(self) -> None:
        self.items: list[tuple[str, dict[str, Any]]] = []
        self.received = b""
        kept = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                kept._keep(body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._lock = threading.Lock()

    @property
    def dsn(self) -> str:
        return f"http://hush@127.0.0.1:{self._server.server_port}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [item for kind, item in self.items if kind == "event"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

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
