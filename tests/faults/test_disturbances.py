"""The database is held up, processes are restarted or stand still: orders wait, and all arrive."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from system import System, copies

#: Seconds that a table is locked: longer than any statement of ours waits.
LOCKED = 15.0
#: Seconds that a process stands still: longer than its rows count as being worked on.
PAUSED = 42.0


@pytest.fixture
def system(environment: dict[str, str], tmp_path: Path) -> Iterator[System]:
    with System(environment, tmp_path) as running:
        yield running


def said(system: System, *events: str) -> bool:
    return any(event in line for event in events for line in system.lines)


def lock_a_table(system: System) -> None:
    with system.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        system.look_after(LOCKED)
    assert said(system, "set.delayed"), "no work was sent away by its time-out"


def use_up_connections(system: System) -> None:
    opened = 0
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):  # until there are no more
            while opened < 1_000:
                stack.enter_context(system.connect())
                opened += 1
        assert opened < 1_000, "the server takes more connections than we can use up"
        system.kill("worker-1", signal.SIGKILL)
        system.kill("publisher", signal.SIGKILL)
        system.look_after(5)
    assert system.restarts()["worker-1"]


def restart_in_turn(system: System) -> None:
    """As a new version is rolled out: everybody is asked to end, one after the other."""
    names = ("worker-1", "worker-2", "publisher", "api")
    for name in names:
        system.kill(name, signal.SIGTERM)

        def is_back(name: str = name) -> bool:
            return system.restarts()[name] == 1 and name in system.running()

        system.wait_until(is_back, what=f"{name} is there again")
        system.look_after(1)
    assert system.restarts() == dict.fromkeys(names, 1)


def let_a_worker_stand_still(system: System) -> None:
    """It holds messages whose rows others have brought through before it goes on."""
    paused = system.kill_all_of("worker-1", signal.SIGSTOP)
    system.look_after(PAUSED)
    assert said(system, "outbox.rearmed"), "it held nothing"
    system.signal(paused, signal.SIGCONT)


@pytest.mark.parametrize(
    "disturb", [lock_a_table, use_up_connections, restart_in_turn, let_a_worker_stand_still]
)
def test_what_gets_in_the_way_costs_time_and_no_order(
    system: System, disturb: Callable[[System], None]
) -> None:
    system.start(system.api())
    system.start(system.publisher(), *copies(system.worker(), 2))
    load = system.load("disturbed", count=100_000, rate=40)
    delivered = "orders WHERE status = 'delivered'"
    system.wait_until(lambda: system.count(delivered) > 20, what="orders are delivered")

    disturb(system)

    load.stop()
    system.finish(load)
    findings = system.settle(timeout=90)
    print(findings)  # noqa: T201 - shown where the test fails, and by -s
    assert findings.is_clean, findings
    assert findings.accepted == findings.delivered == load.placed
