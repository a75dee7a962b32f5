"""What telemetry costs: whole orders with nobody looking, and with everything looked at."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.request import urlopen

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed
from benchmarks.measures.flowing import check, drain, fill
from benchmarks.system import Processes, System
from slimtrack.stack.directory import free_ports

#: Seconds between two scrapes, as in deploy/prometheus.
_INTERVAL: Final = 5.0
#: Times as many orders as elsewhere: small differences are looked for.
_MORE: Final = 4
#: One of so many orders is traced: at this rate, as many as two processes of the API trace unless
#: they are told otherwise.
_TRACED: Final = 1_000
_TRACE: Final = """
    UPDATE outbox
       SET traceparent = '00-' || md5(id::text) || '-' || left(md5(id::text), 16) || '-01'
     WHERE id %% %s = 0
"""


def unwatched(system: System, scale: Scale) -> Figures:
    """Take orders through all stages with warnings in the log alone."""
    return {"whole orders, unwatched": _rate(system, scale, {})}


def watched(system: System, scale: Scale) -> Figures:
    """Take orders through with a full log, pages that are scraped, Sentry and traces."""
    with _collector() as (address, spans):
        settings = {
            "SLIMTRACK_LOG_LEVEL": "info",
            "SLIMTRACK_LOG_FORMAT": "json",
            "SLIMTRACK_METRICS_BIND": f"127.0.0.1:{free_ports(1)[0]}",
            "SENTRY_DSN": f"http://key@{address}/1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
        }
        rate = _rate(system, scale, settings)
    if not spans:
        raise FaultError("No span arrived.")
    return {"whole orders, watched": rate}


def _rate(system: System, scale: Scale, settings: dict[str, str]) -> float:
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0", **settings) as processes,
        system.connect() as database,
        _scraper(processes),
    ):
        fill(
            processes,
            orders=_MORE * scale.orders,
            prepare=lambda: database.execute(_TRACE, [_TRACED]),
        )
        seconds = drain(database)
        check(database)
    return _MORE * scale.orders / seconds


@contextmanager
def _scraper(processes: Processes) -> Iterator[None]:
    """Scrape all pages, over and over.

    Raises:
        FaultError: a page was not served, or nothing was scraped.
    """
    stopping = threading.Event()
    failures: list[str] = []
    urls = list(processes.metrics_urls)
    thread = threading.Thread(target=_scrape, args=(urls, stopping, failures))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if failures:
        raise FaultError(f"A page of metrics was not served: {failures[0]}")


def _scrape(urls: Sequence[str], stopping: threading.Event, failures: list[str]) -> None:
    unseen = set(urls)
    while not stopping.wait(_INTERVAL):
        for url in urls:
            try:
                with urlopen(url, timeout=_INTERVAL) as page:  # noqa: S310 - our own address
                    page.read()
            except OSError as error:
                failures.append(f"{url}: {error}")
            unseen.discard(url)
    failures += [f"{url}: never asked for" for url in unseen]


@contextmanager
def _collector() -> Iterator[tuple[str, list[int]]]:
    """Take whatever is sent over HTTP; yield its host and port, and the sizes of traces."""
    spans: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/traces":
                spans.append(size)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def compared(figures: Figures) -> Figures:
    """Compare both rates."""
    return {
        "whole orders, watched, to unwatched": figures["whole orders, watched"]
        / figures["whole orders, unwatched"]
    }


GROUP: Final = Group(
    name="telemetry",
    what="Telemetry",
    measures=(unwatched, watched),
    together=compared,
    rows=(
        Row(
            metric="whole orders with logs, metrics, Sentry, traces, to those without",
            figure="whole orders, watched, to unwatched",
            unit="times",
            floor=fixed(0.95),
            target=fixed(0.98),
        ),
    ),
)
