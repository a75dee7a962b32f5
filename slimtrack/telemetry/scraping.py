"""The page that Prometheus scrapes: one for each group of processes, on a port of its own."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from slimtrack.telemetry import metrics
from slimtrack.telemetry.sharing import VARIABLE

_log: Final = structlog.get_logger()

#: Seconds between two looks at what is measured, not counted, and whether the page is served.
_INTERVAL: Final = 1.0


class _Group(Collector):
    """Sums what the processes of a group have counted."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterable[Metric]:
        """Read their files; one that a process is just making is empty for a moment."""
        files = [str(each) for each in self._directory.glob("*.db") if _has_content(each)]
        merge: Callable[..., Iterable[Metric]] = MultiProcessCollector.merge
        return merge(files, accumulate=True)


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # its process has ended just now
        return False


def serve_metrics(bind: str, *, measure: Callable[[], object]) -> None:
    """Serve the page from a thread, for as long as this process lives; never before a fork.

    Of the processes of a group one serves the page of all. When it ends, another one does.

    Args:
        bind: HOST:PORT.
        measure: looks at what is measured, every second.
    """
    metrics.describe_build()
    threading.Thread(target=_run, args=(bind, measure), name="metrics", daemon=True).start()


def _run(bind: str, measure: Callable[[], object]) -> None:
    is_served = False
    problem = ""
    while True:
        try:
            is_served = is_served or _serve(bind)
        except OSError as error:
            if str(error) != problem:
                problem = str(error)
                # Others of the group have the port, as a rule.
                expected = error.errno == errno.EADDRINUSE
                (_log.info if expected else _log.error)("metrics.waiting", bind=bind, error=problem)
        metrics.measure_memory()
        measure()
        time.sleep(_INTERVAL)


def _serve(bind: str) -> bool:
    host, _, port = bind.rpartition(":")
    registry = REGISTRY
    if directory := os.environ.get(VARIABLE):
        registry = CollectorRegistry()
        registry.register(_Group(directory))
    start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    _log.info("metrics.served", bind=bind)
    return True
