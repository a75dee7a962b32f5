"""The whole stack through the command line, as a person starts it."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
import psycopg
import pytest
from command import run_slimtrack
from observing import children_of, count_waiting, wait_until

from slimtrack.broker.topology import EVENT_EXCHANGE
from slimtrack.domain.order import JOURNEY
from slimtrack.local.state import Phase, running_stack
from slimtrack.routing import BY_QUEUE
from slimtrack.stack.directory import free_ports

PROCESSES = {
    *("postgresql", "rabbitmq", "redis", "publisher", "api"),
    *(f"worker-{stage}" for stage in JOURNEY),
}


def processes_of(directory: Path) -> list[str]:
    """The command lines that still have to do with a state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in words and int(entry.name) != os.getpid():
                found.append(words[:200].decode(errors="replace"))
    return found


@dataclass(frozen=True)
class Slimtrack:
    """The command, on a state directory of its own."""

    directory: Path

    def __call__(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        unset = {"DATABASE_URL", "AMQP_URL", "REDIS_URL"}
        environment = {name: text for name, text in os.environ.items() if name not in unset}
        return run_slimtrack(
            *arguments,
            environment={
                **environment,
                "SLIMTRACK_STATE_DIR": str(self.directory),
                "SLIMTRACK_STAGE_DELAYS": "0",
                **more,
            },
        )

    def status(self) -> Any:
        return json.loads(self("status", "--json").stdout)

    def authorization(self) -> dict[str, str]:
        stack = running_stack(self.directory)
        assert stack
        return {"Authorization": f"Bearer {stack.api_key}"}

    def health(self) -> Any:
        with urllib.request.urlopen(self.status()["api_url"] + "/health/ready") as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        return bool(self.status()["ready"])

    def pid(self, name: str) -> int:
        return next(int(each["pid"]) for each in self.status()["processes"] if each["name"] == name)


@pytest.fixture
def slimtrack() -> Iterator[Slimtrack]:
    with tempfile.TemporaryDirectory(prefix="slimtrack-stack-") as folder:
        Path(folder).chmod(0o755)
        command = Slimtrack(Path(folder) / "state")
        try:
            yield command
        finally:
            command("down")
            assert processes_of(command.directory) == []


#: Each has a role of its own in the database.
PROGRAMS = ("api", "publisher", "worker")
#: What a person may ask, as the role that may only read, and as the owner.
QUESTIONS = (
    *("audit", "stuck", "dead-letters list", "dead-letters groups", "dead-letters export"),
    *("reconcile", "keys list", "tenants list"),
)


def test_a_stack_starts_shows_itself_heals_and_stops(slimtrack: Slimtrack, tmp_path: Path) -> None:
    assert slimtrack("status").returncode == 3

    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    started = slimtrack("up", "--detach", SLIMTRACK_EVENTS="on", SLIMTRACK_METRICS_BIND=metrics)
    assert started.returncode == 0, started.stderr
    status = slimtrack.status()
    assert {each["name"] for each in status["processes"]} == PROCESSES
    assert status["api_url"] in started.stdout
    assert f"Dashboard: {status['dashboard_url']}\n" in started.stdout
    assert slimtrack.authorization()["Authorization"].removeprefix("Bearer ") in started.stdout
    wait_until(lambda: slimtrack.health()["status"] == "ready")
    assert slimtrack.health()["processes"] == {"publisher": "up", **dict.fromkeys(BY_QUEUE, "up")}
    pages = {each["metrics"] for each in status["processes"]} - {""}
    assert len(pages) == 2 + len(JOURNEY)
    for page in pages:
        with urllib.request.urlopen(page) as answer:
            assert b"slimtrack_build_info{" in answer.read()
    assert "publisher.started" in slimtrack("logs", "publisher").stdout
    assert "postgresql" not in slimtrack("logs", "publisher").stdout

    stack = running_stack(slimtrack.directory)
    assert stack
    with psycopg.connect(stack.environment["DATABASE_URL"]) as database:
        users = database.execute(
            "SELECT DISTINCT usename, application_name FROM pg_stat_activity"
            " WHERE application_name ~ '^slimtrack (api|publisher|worker)$' ORDER BY 1"
        ).fetchall()
    assert users == [(f"slimtrack_{name}", f"slimtrack {name}") for name in PROGRAMS]

    assert stack.environment["DATABASE_URL"].startswith("postgresql://slimtrack_owner:")
    assert stack.readonly_url.startswith("postgresql://slimtrack_readonly:")
    state = slimtrack.directory / "stack.json"
    assert state.stat().st_mode & 0o777 == 0o600
    superuser = (slimtrack.directory / "secrets/postgresql").read_text()
    assert superuser not in state.read_text()
    migrated = slimtrack("migrate", **stack.environment)
    assert migrated.stdout == "The database is up to date.\n"
    for question in QUESTIONS:
        asked = slimtrack(*question.split())
        assert asked.returncode == 0, asked.stderr

    with pika.BlockingConnection(pika.URLParameters(stack.environment["AMQP_URL"])) as broker:
        channel = broker.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EVENT_EXCHANGE, "order.#")
        rows = tmp_path / "orders.csv"
        rows.write_text("description\nA parcel\n")
        # From a shell in which it is not set.
        assert slimtrack("import", str(rows)).returncode == 0
        wait_until(lambda: count_waiting(channel, queue) == 1 + len(JOURNEY))

    second = slimtrack("up")
    assert second.returncode == 1
    assert f"process {status['pid']}" in second.stderr

    let_stand_still(slimtrack, tmp_path)

    for name in ("publisher", "worker-in_transit", "api"):
        os.kill(slimtrack.pid(name), signal.SIGKILL)
    wait_until(lambda: sum(each["restarts"] for each in slimtrack.status()["processes"]) == 3)
    wait_until(slimtrack.is_ready)

    stopped = slimtrack("down")
    assert stopped.stdout.endswith("Everything has stopped.\n")
    assert slimtrack("status").returncode == 3


def let_stand_still(slimtrack: Slimtrack, tmp_path: Path) -> None:
    """Stop processes as a debugger does: not one of them ends, and nobody is told."""
    stack = running_stack(slimtrack.directory)
    assert stack
    master = slimtrack.pid("worker-processing")
    worker = children_of(master)[-1]
    stopped = [slimtrack.pid("publisher"), worker, slimtrack.pid("worker-in_transit")]
    still = {"publisher", "worker-processing", "worker-in_transit"}
    # Workers whose parent alone stands still go on.
    missing = {"publisher", "orders.processing"}

    def ask(path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json", **slimtrack.authorization()}
        request = urllib.request.Request(stack.api_url + path, body, headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def shows(status: str, down: set[str]) -> bool:
        ready = ask("/health/ready")
        found = {name for name, word in ready["processes"].items() if word == "down"}
        return bool(ready["status"] == status and found == down)

    def stalled() -> set[str]:
        now = running_stack(slimtrack.directory)
        assert now
        return {each.name for each in now.processes if each.phase is Phase.STALLED}

    assert shows("ready", set())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: stalled() == still, timeout=15)
    by_stack = time.monotonic() - began
    wait_until(lambda: shows("degraded", missing), timeout=15 - by_stack)
    print(f"seen after {by_stack:.1f} s and {time.monotonic() - began:.1f} s")  # noqa: T201 - with -s
    order = ask("/api/orders", b'{"description": "It waits"}')
    status = slimtrack("status")
    assert status.returncode == 1
    assert status.stdout.count("stalled") == len(still)
    # As from another machine, where no stack runs.
    named = {**stack.environment, "SLIMTRACK_STATE_DIR": str(tmp_path)}
    elsewhere = slimtrack("status", "--json", **named)
    assert elsewhere.returncode == 1
    shown = json.loads(elsewhere.stdout)
    assert {name for name, works in shown["working"].items() if not works} == missing
    assert {each["kind"] for each in shown["processes"]} == set(PROGRAMS)

    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    wait_until(lambda: shows("ready", set()) and not stalled(), timeout=15)
    print(f"well again after {time.monotonic() - began:.1f} s")  # noqa: T201 - as above
    wait_until(lambda: ask(f"/api/orders/{order['id']}")["status"] == "delivered")
    assert slimtrack("status", **named).returncode == 0
    assert slimtrack.is_ready()
    assert not any(each["restarts"] for each in slimtrack.status()["processes"])


def test_a_killed_up_leaves_no_process_and_starts_again_on_its_data(slimtrack: Slimtrack) -> None:
    assert slimtrack("up", "--detach").returncode == 0
    request = urllib.request.Request(
        slimtrack.status()["api_url"] + "/api/orders",
        data=b'{"description": "A parcel"}',
        headers={"Content-Type": "application/json", **slimtrack.authorization()},
    )
    with urllib.request.urlopen(request) as answer:
        order = json.load(answer)
    os.kill(slimtrack.status()["pid"], signal.SIGKILL)
    wait_until(lambda: processes_of(slimtrack.directory) == [])
    assert slimtrack("status").returncode == 3

    assert slimtrack("up", "--detach").returncode == 0

    url = f"{slimtrack.status()['api_url']}/api/orders/{order['id']}"

    def is_delivered() -> bool:
        request = urllib.request.Request(url, headers=slimtrack.authorization())
        with urllib.request.urlopen(request) as answer:
            return bool(json.load(answer)["status"] == "delivered")

    wait_until(is_delivered)


def test_a_wrong_setting_stops_the_start_and_is_named(slimtrack: Slimtrack) -> None:
    failed = slimtrack("up", "--detach", SLIMTRACK_SET_SIZE="many")

    assert failed.returncode == 1
    assert "SLIMTRACK_SET_SIZE must be a whole number" in failed.stderr


def test_the_demo_delivers_its_orders_and_stops_what_it_started(slimtrack: Slimtrack) -> None:
    shown = slimtrack("demo", "--orders", "5")

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.endswith("5 orders delivered, 25 events, 0 lost, 0 duplicated\n")
    assert slimtrack("status").returncode == 3
