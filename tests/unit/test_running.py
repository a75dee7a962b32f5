"""The publisher's timed jobs, and how it ends when its thread does; no server is needed."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from slimtrack.outbox import running

DAY = 86_400.0

#: Servers that are named and never asked.
SERVERS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "AMQP_URL": "amqp://127.0.0.1:1/",
    "REDIS_URL": "redis://127.0.0.1:1/",
}
#: A publisher whose thread ended while a job is at work, as APScheduler's threads are: Python
#: would wait for it.
ENDING = """
import threading, time
from slimtrack import publisher

def run_publisher(settings, stopping):
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise RuntimeError("The publisher thread has ended.")

publisher._STOP_LIMIT = 1.0
publisher.publisher.run_publisher = run_publisher
publisher.main()
"""


class Idle:
    """Publishes nothing."""

    def run(self, stopping: threading.Event) -> None:
        stopping.wait()

    def wake_up(self) -> None:
        pass


def hear_nothing(_: Callable[[], None], until: threading.Event) -> None:
    until.wait()


def test_a_job_that_runs_seldom_runs_soon_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_SOON", 0.1)
    stopping = threading.Event()
    limit = threading.Timer(20, stopping.set)  # else a job that never runs would hang the test
    limit.start()
    ran: list[float] = []

    def job() -> None:
        ran.append(time.monotonic())
        stopping.set()

    running.run(
        {"idle": Idle()},
        jobs=[(job, DAY)],
        listen=hear_nothing,
        stopping=stopping,
    )
    limit.cancel()
    assert len(ran) == 1


def test_a_publisher_whose_thread_ended_does_not_wait_for_its_jobs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        env={**os.environ, **SERVERS},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.returncode == 1
    assert "The publisher thread has ended." in done.stderr
    assert "Timeout (0:00:01)!" in done.stderr
