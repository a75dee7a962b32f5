"""What a worker process owes its parent: to die with it, to say when it works, not to limp."""

import os
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog
from dramatiq import Broker, Middleware, Worker

from slimtrack.process import die_with_parent, notify_ready
from slimtrack.telemetry import errors

_log: Final = structlog.get_logger()

#: Seconds between two looks at the threads.
_INTERVAL: Final = 1.0
#: EX_SOFTWARE of sysexits.h.
_EXIT_CODE: Final = 70


class Lifecycle(Middleware):
    """Ends a worker process whose master, or one of whose threads, is gone.

    A killed Dramatiq master leaves its workers alive, and nothing in Dramatiq watches their
    threads: a worker that lost one would hold messages and do nothing with them.

    Args:
        alive: called every second in which the threads live, with the queues that they take from.
        leave: called at the end: such a process ends without what Python does at an exit.
        stopping: set when the process is to end.
    """

    def __init__(
        self,
        alive: Callable[[Collection[str]], None],
        leave: Callable[[], None],
        *,
        stopping: threading.Event,
    ) -> None:
        self._alive = alive
        self._leave = leave
        self._stopping = stopping

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Tie this process to its master."""
        del broker, worker
        master = os.getppid()
        die_with_parent(signal.SIGKILL)
        if os.getppid() != master:  # it died before the kernel knew of our wish
            os._exit(_EXIT_CODE)

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Report that messages are consumed, and watch the threads from now on."""
        del broker
        self._alive(worker.consumers.keys())
        watchdog = threading.Thread(
            target=self._watch, args=(worker,), name="watchdog", daemon=True
        )
        watchdog.start()
        notify_ready()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Let threads end from now on."""
        del broker, worker
        self._stopping.set()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Take leave, when all work is done."""
        del broker, worker
        self._leave()

    def _watch(self, worker: Worker) -> None:
        while not self._stopping.wait(_INTERVAL):
            threads: list[Any] = [*worker.workers, *worker.consumers.values()]
            dead = [thread.name for thread in threads if not thread.is_alive()]
            if dead and not self._stopping.is_set():
                _log.critical("worker.crippled", threads=dead)
                errors.flush()
                os._exit(_EXIT_CODE)
            self._alive(worker.consumers.keys())
