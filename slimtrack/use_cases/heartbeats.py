"""Heartbeats: what each process says of itself, and what that says of the system."""

import os
import socket
import threading
import time
from collections.abc import Collection, Iterable
from math import inf
from typing import Any, Final
from uuid import uuid4

import psycopg
import structlog

from slimtrack import __version__
from slimtrack.process import memory_of_this_process
from slimtrack.routing import BY_QUEUE
from slimtrack.sql import processes
from slimtrack.sql.pool import Pool, conninfo
from slimtrack.sql.processes import Process
from slimtrack.telemetry.scrubbing import first_line

_log: Final = structlog.get_logger()

#: Seconds between two signs of life of one process; they are most of what an idle worker asks.
_INTERVAL: Final = 8.0
#: Seconds of silence after which a process stands still. A sign may be late by 4 s.
STILL_AFTER: Final = 13.0
#: Seconds of silence after which nobody wants to know of a process any more.
FORGOTTEN_AFTER: Final = 600.0
#: Seconds that a process waits at its end for the database.
_LEAVING: Final = 2.0
#: Seconds that somebody waits for a connection who wants a quick answer.
_PROMPT: Final = 1.0
_SESSION: Final = {"statement_timeout": "5s", "lock_timeout": "5s"}


class Heartbeat:
    """Tells the database every few seconds that this process lives; make it after the fork.

    From a thread and a connection of its own, so that neither the work holds up a sign nor the
    other way round. But it gives one only when it is told that all is well: where those who watch
    over the process stand still, no sign is given.

    Args:
        database_url: where PostgreSQL is.
        kind: of this process.
    """

    def __init__(self, database_url: str, *, kind: str) -> None:
        self._conninfo = conninfo(
            database_url, application_name="slimtrack heartbeat", options=_SESSION
        )
        self._kind = kind
        self._id = uuid4()
        self._started = time.monotonic()
        self._queues: list[str] = []
        self._due = -inf
        self._wanted = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self, queues: Iterable[str] = ()) -> None:
        """Say that all is well; to be called every second or so, and never waits."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _INTERVAL
            self._queues = sorted(queues)
            self._wanted.set()

    def close(self) -> None:
        """Take leave, and end the thread."""
        self._closing = True
        self._wanted.set()
        self._thread.join(_LEAVING)

    def _run(self) -> None:
        while not self._closing:
            self._wanted.wait()
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as connection:
                    self._give_signs(connection)
            except psycopg.Error as error:
                _log.warning("heartbeat.failed", error=first_line(str(error)))
                # With the next beat, so soon; but not by itself.
                self._wanted.clear()
                self._due = -inf

    def _give_signs(self, connection: psycopg.Connection[Any]) -> None:
        while not self._closing:
            self._wanted.clear()
            processes.note_process(
                connection,
                self._id,
                kind=self._kind,
                host=socket.gethostname(),
                pid=os.getpid(),
                queues=self._queues,
                version=__version__,
                memory_bytes=memory_of_this_process(),
                age=time.monotonic() - self._started,
            )
            self._wanted.wait()
        processes.forget_process(connection, self._id)


class Presence:
    """Who has given a sign of life.

    Args:
        pool: connections to PostgreSQL, in autocommit.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def list(self) -> list[Process]:
        """Return every process that was seen lately; those that ended well are gone."""
        with self._pool.connection() as connection:
            return processes.list_processes(connection)

    def who_works(self) -> dict[str, bool | None]:
        """Tell of the publisher, and of each queue's workers, whether at least one lives.

        None of all of them where the database does not say.
        """
        try:
            with self._pool.connection(timeout=_PROMPT) as connection:
                found = processes.list_processes(connection)
        except psycopg.Error:
            return dict.fromkeys(("publisher", *BY_QUEUE), None)
        return who_works(found)


def is_alive(process: Process) -> bool:
    """Tell whether a process has given a sign of life in time."""
    return process.silent <= STILL_AFTER


def who_works(found: Collection[Process]) -> dict[str, bool | None]:
    """Tell of the publisher, and of each queue's workers, whether at least one lives."""
    alive = [process for process in found if is_alive(process)]
    served = {queue for process in alive for queue in process.queues}
    return {
        "publisher": any(process.kind == "publisher" for process in alive),
        **{queue: queue in served for queue in BY_QUEUE},
    }
