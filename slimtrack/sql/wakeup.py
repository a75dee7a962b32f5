"""The wake-up: tells the publisher that rows may be due, and is heard by it."""

import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
import structlog

from slimtrack.sql.pool import conninfo
from slimtrack.telemetry.scrubbing import first_line

_log: Final = structlog.get_logger()

_CHANNEL: Final = "slimtrack_outbox"
#: Seconds between two wake-ups of one process: NOTIFY takes a global lock when it commits.
_PAUSE: Final = 0.005
#: Seconds before a connection that was lost is tried again.
_RECONNECT: Final = 0.5


class WakeUp:
    """Sends wake-ups from a thread and a connection of its own, so that no caller ever waits.

    Many calls in a row make one notification. One that is lost costs time, never an order: the
    publisher looks by itself every few seconds.
    """

    def __init__(self, database_url: str) -> None:
        self._conninfo = conninfo(database_url, application_name="slimtrack wake-up", options={})
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="wake-up", daemon=True)
        self._thread.start()

    def send(self) -> None:
        """Wake the publisher soon; call it after the commit."""
        self._wanted.set()

    def close(self) -> None:
        """Send what is outstanding and end the thread."""
        self._closing = True
        self._wanted.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._closing:
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    while not self._closing:
                        self._wanted.wait()
                        self._wanted.clear()
                        connection.execute(f"NOTIFY {_CHANNEL}")
                        time.sleep(_PAUSE)
            except psycopg.Error as error:
                _log.warning("wake_up.failed", error=first_line(str(error)))
                self._wanted.set()  # the one that failed is still owed
                time.sleep(_RECONNECT)


def listen(database_url: str, on_wake_up: Callable[[], None], stopping: threading.Event) -> None:
    """Call ``on_wake_up`` for wake-ups until ``stopping`` is set; reconnects by itself.

    Needs a direct connection: a pooler in transaction mode does not deliver notifications.
    """
    info = conninfo(database_url, application_name="slimtrack listen", options={})
    while not stopping.is_set():
        try:
            with psycopg.connect(info, autocommit=True) as connection:
                connection.execute(f"LISTEN {_CHANNEL}")
                on_wake_up()  # something may have come before we listened
                while not stopping.is_set():
                    for _ in connection.notifies(timeout=1.0, stop_after=1):
                        on_wake_up()
        except psycopg.Error as error:
            _log.warning("listen.failed", error=first_line(str(error)))
            stopping.wait(_RECONNECT)
