"""A whole SlimTrack on private servers, with what it costs."""

import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psycopg

from slimtrack import bootstrap
from slimtrack.local.state import Phase
from slimtrack.settings import Settings
from slimtrack.stack.directory import free_ports
from slimtrack.stack.processes import (
    choose_bind,
    plan_api,
    plan_publisher,
    plan_workers,
    with_metrics,
)
from slimtrack.stack.servers import prepare_servers
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: What PostgreSQL writes of a statement, where it writes all of them.
_STATEMENT: Final = re.compile(r"LOG:  (statement|execute \S+):")


Database = psycopg.Connection[Any]


class System:
    """Servers that run, and processes that are started for one measure after the other."""

    def __init__(
        self, environment: Mapping[str, str], servers: Supervisor, lines: Counter[str]
    ) -> None:
        self.environment = environment
        self._servers = servers
        self._lines = lines

    def processes(self, **settings: str) -> AbstractContextManager["Processes"]:
        """Run all processes on emptied tables, with these settings."""
        return self._run(
            settings,
            lambda environment, api: [
                [plan_publisher(environment), *plan_workers(environment)],
                [api],
            ],
        )

    def api(
        self, *, app: str | None = None, **settings: str
    ) -> AbstractContextManager["Processes"]:
        """Run the API alone, or another app as it, on emptied tables, with these settings."""

        def plan(_: Mapping[str, str], api: Service) -> list[list[Service]]:
            return [[replace(api, command=(*api.command[:-1], app)) if app else api]]

        return self._run(settings, plan)

    def publisher(self, **settings: str) -> AbstractContextManager["Processes"]:
        """Run the publisher alone, on emptied tables, with these settings."""
        return self._run(settings, lambda environment, _: [[plan_publisher(environment)]])

    def nothing(self) -> AbstractContextManager["Processes"]:
        """Run nothing beside the servers, on emptied tables."""
        return self._run({}, lambda *_: [])

    def workers(self, **settings: str) -> AbstractContextManager["Processes"]:
        """Run the workers alone, on emptied tables, with these settings."""
        return self._run(settings, lambda environment, _: [plan_workers(environment)])

    @contextmanager
    def _run(
        self,
        settings: Mapping[str, str],
        plan: Callable[[Mapping[str, str], Service], list[list[Service]]],
    ) -> Iterator["Processes"]:
        environment = {**self.environment, **settings}
        api = plan_api(environment, bind=choose_bind(environment))
        self._empty()
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            groups = _measured(plan(environment, api), environment)
            supervisor.start(*groups)
            yield Processes(
                Settings.from_environment(environment),
                supervisor,
                api.address,
                [service.metrics for group in groups for service in group if service.metrics],
            )
        finally:
            supervisor.stop()

    def _empty(self) -> None:
        with self.connect() as database:
            database.execute(
                "TRUNCATE orders, order_statuses, order_events, outbox, dead_letters,"
                " idempotency_keys"
            )
            # Deferred work of the last measure shall not be paid in this one.
            database.execute("CHECKPOINT")

    def connect(self) -> Database:
        """Open a connection in autocommit."""
        return psycopg.connect(self.environment["DATABASE_URL"], autocommit=True)

    def server_cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each server has taken so far."""
        return {state.name: cpu_seconds(state.pid or 0) for state in self._servers.states}

    def server_memory(self) -> dict[str, int]:
        """Return the bytes that each server holds in memory with all its processes."""
        return {
            state.name: sum(map(_memory, family(state.pid or 0))) for state in self._servers.states
        }

    def statements(self, seconds: float) -> int:
        """Count the statements that PostgreSQL is sent meanwhile."""
        with self.connect() as database:
            database.execute("ALTER SYSTEM SET log_statement = 'all'")
            database.execute("SELECT pg_reload_conf()")
            time.sleep(1)  # for the sessions to notice
            before = self._lines["statements"]
            time.sleep(seconds)
            counted = self._lines["statements"] - before
            database.execute("ALTER SYSTEM RESET log_statement")
            database.execute("SELECT pg_reload_conf()")
            return counted

    def crash(self, name: str) -> None:
        """Kill a server and start it again; return when it answers."""
        [state] = [state for state in self._servers.states if state.name == name]
        os.kill(state.pid or 0, signal.SIGKILL)
        while True:
            self._servers.poll()
            [now] = [state for state in self._servers.states if state.name == name]
            if now.pid != state.pid and now.phase is Phase.READY:
                return
            time.sleep(0.02)


class Processes:
    """Our processes, while they run."""

    def __init__(
        self, settings: Settings, supervisor: Supervisor, api_url: str, metrics_urls: Sequence[str]
    ) -> None:
        self.settings = settings
        self.api_url = api_url
        self.metrics_urls = metrics_urls
        self._supervisor = supervisor

    def cpu(self) -> float:
        """Return the CPU seconds that they have taken so far."""
        return sum(cpu_seconds(state.pid or 0) for state in self._supervisor.states)

    def memory(self) -> dict[str, int]:
        """Return the bytes that each process holds in memory, by kind and id: ``worker 123``."""
        return {
            f"{state.name.partition('-')[0]} {pid}": _memory(pid)
            for state in self._supervisor.states
            for pid in family(state.pid or 0)
        }


@contextmanager
def run_system(*, report: Callable[[str], None]) -> Iterator[System]:
    """Start private servers with their production settings, migrated; stop them at the end."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-bench-") as folder:
        Path(folder).chmod(0o755)
        prepared = prepare_servers(Path(folder) / "state", environment={}, report=report)
        lines: Counter[str] = Counter()

        def count(name: str, line: str) -> None:
            if name == "postgresql" and _STATEMENT.search(line):
                lines["statements"] += 1

        servers = Supervisor(on_line=count)
        try:
            servers.start(prepared.services)
            environment = {
                **os.environ,
                **prepared.environment,
                "SLIMTRACK_AUTH": "off",
                "SLIMTRACK_LOG_LEVEL": "warning",
                # Not the usual one: whoever calls that shall not be counted.
                "SLIMTRACK_API_BIND": f"127.0.0.1:{free_ports(1)[0]}",
            }
            bootstrap.migrate(Settings.from_environment(environment))
            yield System(environment, servers, lines)
        finally:
            servers.stop()


def _measured(
    groups: Sequence[Sequence[Service]], environment: Mapping[str, str]
) -> list[list[Service]]:
    """Give each service a page of metrics, if they are wanted."""
    bind = environment.get("SLIMTRACK_METRICS_BIND")
    if not bind:
        return [list(group) for group in groups]
    services = [service for group in groups for service in group]
    measured = iter(with_metrics(services, bind=bind, api_bind=environment["SLIMTRACK_API_BIND"]))
    return [[next(measured) for _ in group] for group in groups]


def family(pid: int) -> list[int]:
    """Return a process and everything that descends from it."""
    found = [pid]
    for each in found:
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, its descendants and those of them that have ended."""
    return sum(_ticks(each) for each in family(pid)) / _TICKS


def wait_for(seconds: float) -> None:
    """Sleep; a moment that has passed is no error."""
    time.sleep(max(0.0, seconds))


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def _memory(pid: int) -> int:
    """Return the resident bytes of a process, with its part of those that it shares."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
