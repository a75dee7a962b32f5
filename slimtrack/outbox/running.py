"""Runs the publisher: its thread, its wake-ups and its timed jobs."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.schedulers.background import BackgroundScheduler

from slimtrack.domain.errors import SlimTrackError
from slimtrack.process import notify_alive, notify_ready
from slimtrack.telemetry import errors

_log: Final = structlog.get_logger()

#: Seconds between two runs of the safety net.
_INTERVAL: Final = 5
#: Seconds until what runs more seldom than this runs for the first time.
_SOON: Final = 300.0
#: Seconds for the publishing thread to finish its claim.
_STOP_TIMEOUT: Final = 10.0


class ThreadEndedError(SlimTrackError):
    """A thread that should run as long as the process has ended."""


class PublishingThread(Protocol):
    """What publishes in a thread of its own."""

    def run(self, stopping: threading.Event) -> None:
        """Publish until ``stopping`` is set and a wake-up comes."""

    def wake_up(self) -> None:
        """Look for something to publish soon."""


def run(
    publishers: Mapping[str, PublishingThread],
    *,
    jobs: Sequence[tuple[Callable[[], object], float]],
    listen: Callable[[Callable[[], None], threading.Event], None],
    stopping: threading.Event,
    alive: Callable[[], None] = notify_alive,
) -> None:
    """Publish until ``stopping`` is set; the claim under way is finished.

    The timed job only wakes the publishing thread, so a hang of the one blocks nothing else.

    Args:
        publishers: by name, each works in a thread of its own.
        jobs: what else runs, and every how many seconds; all of them within 5 minutes.
        listen: hears wake-ups until the event is set, in a thread of its own.
        stopping: set by whoever wants the end.
        alive: called every second in which the threads live.

    Raises:
        ThreadEndedError: a thread ended by itself; what it raised has been printed.
    """

    def wake_up() -> None:
        for publisher in publishers.values():
            publisher.wake_up()

    threads = [
        threading.Thread(target=publisher.run, args=(stopping,), name=name, daemon=True)
        for name, publisher in publishers.items()
    ]
    threads.append(
        threading.Thread(target=listen, args=(wake_up, stopping), name="listener", daemon=True)
    )
    # Before they work: what happens to one of them from now on is no failure to start.
    notify_ready()
    for thread in threads:
        thread.start()
    # A busy machine runs jobs late: late is better than never, and once is enough.
    scheduler = BackgroundScheduler(
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
    )
    scheduler.add_listener(lambda event: errors.report(event.exception), EVENT_JOB_ERROR)
    scheduler.add_job(wake_up, "interval", seconds=_INTERVAL)
    for job, seconds in jobs:
        # Not after a day for the first time: a process may be replaced more often than that.
        first = datetime.now(UTC) + timedelta(seconds=min(seconds, _SOON))
        scheduler.add_job(job, "interval", seconds=seconds, next_run_time=first)
    scheduler.start()
    _log.info("publisher.started")
    try:
        while not stopping.wait(1.0):
            for thread in threads:
                if not thread.is_alive():
                    raise ThreadEndedError(f"The {thread.name} thread has ended.")
            alive()
    finally:
        stopping.set()
        wake_up()
        scheduler.shutdown(wait=False)
        for thread in threads:
            thread.join(_STOP_TIMEOUT)
        _log.info("publisher.stopped")
