"""A whole SlimTrack under test: its processes, its load, its ledger, and the look at the end."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pika
import pika.exceptions
import psycopg
from auditor import Findings, audit
from ledger import Ledger, Load
from observing import children_of, count

from slimtrack.broker.topology import dead_letter_queue
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.stack.directory import free_ports
from slimtrack.stack.processes import (
    plan_api,
    publisher_command,
    worker_command,
    worker_environment,
)
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

#: Set to see that the tests of this folder notice when nothing goes wrong: they have to fail then.
WITHOUT_FAULTS = bool(os.environ.get("SLIMTRACK_TEST_WITHOUT_FAULTS"))


class System:
    """Everything of a SlimTrack but the servers, kept alive by a supervisor as in production.

    The supervisor works in the thread that waits: whoever waits, waits with ``wait_until``.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = {**environment, "SLIMTRACK_MIN_BACKOFF": "0.2"}
        self.fired_in = folder / "fired"
        self.fired_in.mkdir()
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.api_url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.lines: list[str] = []
        self._loads: list[Load] = []
        self._supervisor = Supervisor(on_line=self._on_line)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stack.close()
        finally:
            self._supervisor.kill()
            self._supervisor.stop()

    def _on_line(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    def start(self, *services: Service) -> None:
        self._supervisor.start(services)

    def api(self, **settings: str) -> Service:
        bind = self.api_url.removeprefix("http://")
        return plan_api(self._armed(settings), bind=bind)

    def publisher(self, name: str = "publisher", **settings: str) -> Service:
        return Service(
            name=name, command=publisher_command(), ready=None, env=self._armed(settings)
        )

    def worker(self, name: str = "worker", **settings: str) -> Service:
        """One group for all queues: what is tested does not depend on how they are spread."""
        environment = self._armed(settings)
        read = Settings.from_environment(environment)
        return Service(
            name=name,
            command=worker_command(read, queues=[]),
            ready=None,
            env={**environment, **worker_environment(read)},
        )

    def load(self, name: str, *, count: int, rate: float = 200) -> Load:
        load = Load(self.api_url, self.ledger, name=name, count=count, rate=rate)
        self._loads.append(load)
        return self._stack.enter_context(load)

    def place(self, name: str, *, count: int) -> None:
        """Place orders and wait for every answer."""
        self.finish(self.load(name, count=count))

    def finish(self, load: Load, *, timeout: float = 60.0) -> None:
        """Wait until every order of a load has its answer."""
        self.wait_until(lambda: load.is_done, what="the load is done", timeout=timeout)

    def pid_of(self, name: str) -> int:
        pid = next(each.pid for each in self._supervisor.states if each.name == name)
        assert pid, f"{name} does not run"
        return pid

    def kill(self, name: str, signal: int) -> None:
        os.kill(self.pid_of(name), signal)

    def kill_all_of(self, name: str, signal: int) -> list[int]:
        """Send a signal to a process and all that descend from it; return their ids."""
        found = [self.pid_of(name)]
        for each in found:
            found += children_of(each)
        self.signal(found, signal)
        return found

    def signal(self, pids: Sequence[int], signal: int) -> None:
        """Send a signal to processes, as far as they still live."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal)

    def running(self) -> list[str]:
        """The names of the processes that run now."""
        return [each.name for each in self._supervisor.states if each.pid]

    def restarts(self) -> dict[str, int]:
        return {each.name: each.restarts for each in self._supervisor.states}

    def fired(self) -> set[str]:
        """The crash points at which something happened."""
        return {each.name for each in self.fired_in.iterdir()}

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.environment["DATABASE_URL"], autocommit=True)

    def count(self, of: str) -> int:
        with self.connect() as connection:
            return count(connection, of)

    def wait_until(
        self, condition: Callable[[], object], *, what: str, timeout: float = 60.0
    ) -> float:
        """Look after the processes until something is so; return the seconds it took."""
        started = time.monotonic()
        if WITHOUT_FAULTS:  # what does not come soon will not come
            timeout = min(timeout, 20.0)
        while not condition():
            self._supervisor.poll()
            waited = time.monotonic() - started
            last = "\n".join(self.lines[-30:])
            assert waited < timeout, f"not within {timeout} s: {what}\n{last}"
            time.sleep(0.05)
        return time.monotonic() - started

    def look_after(self, seconds: float) -> None:
        """Look after the processes for a while."""
        until = time.monotonic() + seconds
        self.wait_until(lambda: time.monotonic() > until, what="time", timeout=seconds + 5)

    def settle(self, *, timeout: float = 60.0) -> Findings:
        """Wait until nothing is left to do, then look at everything."""
        assert all(load.is_done for load in self._loads), "orders are still being placed"
        self.wait_until(self._is_quiet, what="the system is quiet", timeout=timeout)
        with self.connect() as connection:
            return audit(connection, self.ledger.lines())

    def _is_quiet(self) -> bool:
        """I7 and I8: nothing in the outbox, nothing in any queue."""
        try:
            return self.count("outbox") == 0 and not any(self.messages().values())
        except (psycopg.OperationalError, pika.exceptions.AMQPError, OSError):
            return False

    def messages(self) -> dict[str, int]:
        """What waits in each queue that there is."""
        parameters = pika.URLParameters(self.environment["AMQP_URL"])
        with pika.BlockingConnection(parameters) as broker:
            channel = broker.channel()
            names = [name for each in BY_QUEUE for name in (each, dead_letter_queue(each))]
            return {
                name: channel.queue_declare(name, passive=True).method.message_count
                for name in names
            }

    def _armed(self, settings: Mapping[str, str]) -> dict[str, str]:
        armed = {**self.environment, "SLIMTRACK_FAULT_DIR": str(self.fired_in), **settings}
        if WITHOUT_FAULTS:
            armed.pop("SLIMTRACK_FAULT", None)
        return armed


def copies(service: Service, number: int) -> list[Service]:
    """The same service several times, under names of their own."""
    return [replace(service, name=f"{service.name}-{each + 1}") for each in range(number)]
