"""The supervisor, with small real processes."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from observing import wait_until

from slimtrack.domain.errors import StackError
from slimtrack.local.log import log_path
from slimtrack.local.state import Phase, ProcessState
from slimtrack.stack.logfile import LogFile, read_last
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor, restart_delay

READY = "from slimtrack.process import notify_ready; notify_ready(); print('up', flush=True)"
SLEEP = f"import time; {READY}; time.sleep(60)"


def service(name: str, program: str, **options: object) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-c", program),
        ready=None,
        env=dict(os.environ),
        **options,  # type: ignore[arg-type]
    )


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Watched(Supervisor):
    """A supervisor that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.changes: list[tuple[str, Phase]] = []
        super().__init__(
            on_line=lambda name, line: self.lines.append((name, line)),
            on_change=lambda state: self.changes.append((state.name, state.phase)),
        )

    def state(self, name: str) -> ProcessState:
        return next(state for state in self.states if state.name == name)

    def pid(self, name: str) -> int:
        pid = self.state(name).pid
        assert pid
        return pid


@pytest.fixture
def supervisor() -> Iterator[Watched]:
    watched = Watched()
    try:
        yield watched
    finally:
        watched.kill()
        watched.stop()


def test_a_start_returns_when_every_process_has_said_that_it_is_ready(supervisor: Watched) -> None:
    supervisor.start([service("a", f"import time; time.sleep(0.3); {SLEEP}")])

    assert supervisor.changes == [("a", Phase.STARTING), ("a", Phase.READY)]
    wait_until(lambda: ("a", "up") in supervisor.lines)


def test_a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words(
    supervisor: Watched,
) -> None:
    with pytest.raises(StackError, match=r"(?s)a ended before.*exit code 3.*no such luck"):
        supervisor.start([service("a", "import sys; print('no such luck'); sys.exit(3)")])


def test_a_process_that_does_not_get_ready_in_time_is_an_error(supervisor: Watched) -> None:
    with pytest.raises(StackError, match=r"not ready after 0\.3 s"):
        supervisor.start([service("a", "import time; time.sleep(60)", ready_timeout=0.3)])


def test_a_killed_process_is_started_again(supervisor: Watched) -> None:
    supervisor.start([service("a", SLEEP)])
    killed = supervisor.pid("a")
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.poll()
        state = supervisor.state("a")
        return state.restarts == 1 and state.phase is Phase.READY

    wait_until(is_back)
    assert supervisor.pid("a") != killed
    assert ("a", Phase.RESTARTING) in supervisor.changes
    assert any("SIGKILL" in line for _, line in supervisor.lines)


def test_a_full_disk_keeps_no_process_from_being_started_again_or_stopped(
    supervisor: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.start([service("a", SLEEP), service("b", SLEEP)])
    monkeypatch.setattr(supervisor, "_on_change", no_space)
    os.kill(supervisor.pid("a"), signal.SIGKILL)

    def is_back() -> bool:
        supervisor.poll()
        state = supervisor.state("a")
        return state.restarts == 1 and state.phase is Phase.READY

    wait_until(is_back)
    assert any("No space left" in line for _, line in supervisor.lines)
    pids = [supervisor.pid("a"), supervisor.pid("b")]
    supervisor.stop()
    assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_cannot_be_started_again_is_tried_later(
    supervisor: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.start([service("a", SLEEP)])
    os.kill(supervisor.pid("a"), signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_space)

        def is_put_off() -> bool:
            supervisor.poll()
            return "cannot be started" in str(supervisor.lines)

        wait_until(is_put_off)

    def is_back() -> bool:
        supervisor.poll()
        return supervisor.state("a").phase is Phase.READY

    wait_until(is_back)
    assert supervisor.state("a").restarts >= 2


def test_a_process_that_gives_no_sign_of_life_is_started_again(supervisor: Watched) -> None:
    alive = (
        f"import time; from slimtrack.process import notify_alive; {READY}\n"
        "while True: notify_alive(); time.sleep(0.1)"
    )
    supervisor.start([service("alive", alive, watchdog=1), service("silent", SLEEP, watchdog=1)])
    silent, living = supervisor.pid("silent"), supervisor.pid("alive")

    def is_back() -> bool:
        supervisor.poll()
        state = supervisor.state("silent")
        return state.restarts == 1 and state.phase is Phase.READY

    wait_until(is_back)
    assert ("silent", "has given no sign of life for 1 s; killed") in supervisor.lines
    assert not is_alive(silent)
    assert supervisor.pid("alive") == living
    os.kill(living, signal.SIGSTOP)

    def is_started_again() -> bool:
        supervisor.poll()
        return supervisor.state("alive").restarts == 1

    wait_until(is_started_again)


def test_a_process_that_is_started_again_and_never_ready_is_killed(
    supervisor: Watched, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    program = f"""
import os, time
if os.path.exists({str(once)!r}):
    time.sleep(60)
open({str(once)!r}, "w").close()
{SLEEP}
"""
    supervisor.start([service("hung", program, ready_timeout=1.5)])
    os.kill(supervisor.pid("hung"), signal.SIGKILL)

    def is_started_twice() -> bool:
        supervisor.poll()
        return supervisor.state("hung").restarts == 2

    wait_until(is_started_twice)
    assert ("hung", "is not ready after 1.5 s; killed") in supervisor.lines


def test_the_wait_before_a_restart_doubles_up_to_a_limit() -> None:
    assert [restart_delay(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 99)] == [
        *(0.5, 1, 2, 4, 8),
        *(15, 15, 15),
    ]


def test_groups_stop_in_reverse_order_and_what_is_under_way_is_finished(
    supervisor: Watched,
) -> None:
    finish = (
        "import signal, time, sys\n"
        "def stop(*_):\n"
        "    time.sleep(0.5); print('finished', flush=True); sys.exit()\n"
        f"signal.signal(signal.SIGTERM, stop)\n{READY}\nwhile True: time.sleep(60)"
    )
    supervisor.start([service("server", SLEEP)], [service("worker", finish)])

    supervisor.stop()

    assert supervisor.changes[-4:] == [
        ("worker", Phase.STOPPING),
        ("worker", Phase.STOPPED),
        ("server", Phase.STOPPING),
        ("server", Phase.STOPPED),
    ]
    wait_until(lambda: ("worker", "finished") in supervisor.lines)


def test_a_process_that_does_not_stop_is_killed_with_its_children(supervisor: Watched) -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"print(child.pid, flush=True)\n{READY}\nwhile True: time.sleep(60)"
    )
    supervisor.start([service("a", stubborn, stop_timeout=0.3)])
    wait_until(lambda: len(supervisor.lines) >= 2)
    child = int(supervisor.lines[0][1])
    assert is_alive(child)

    supervisor.stop()

    wait_until(lambda: not is_alive(child))
    assert ("a", "does not stop; killed") in supervisor.lines


def test_a_killed_supervisor_leaves_no_process_behind() -> None:
    program = (
        "import os, sys, time\n"
        "from slimtrack.stack.service import Service\n"
        "from slimtrack.stack.supervisor import Supervisor\n"
        "s = Supervisor(on_line=lambda *_: None)\n"
        f"a = Service(name='a', command=(sys.executable, '-c', {SLEEP!r}), ready=None,"
        " env=dict(os.environ))\n"
        "s.start([a])\n"
        "print(s.states[0].pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as driver:
        assert driver.stdout
        child = int(driver.stdout.readline())
        assert is_alive(child)
        driver.kill()

    wait_until(lambda: not is_alive(child))


def test_odd_output_is_survived(supervisor: Watched) -> None:
    program = (
        "import sys; sys.stdout.buffer.write(b'\\xff\\xfe caf\\xe9\\n' + b'x' * 200_000 + b'\\n')\n"
    )
    supervisor.start([service("a", program + SLEEP)])

    wait_until(lambda: ("a", "up") in supervisor.lines)
    assert supervisor.lines[0] == ("a", "�� caf�")
    assert sum(len(line) for _, line in supervisor.lines[1:-1]) == 200_000


def test_the_log_file_is_bounded_and_gives_back_the_last_lines(tmp_path: Path) -> None:
    log = LogFile(tmp_path)
    for number in range(35_000):
        log.write("api" if number % 2 else "publisher", f"{number} {'x' * 1000}")
    log.close()

    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 10_000_000
    assert log_path(tmp_path).exists()
    last = read_last(tmp_path, process="api", count=2)
    assert [(name, line.split()[0]) for name, line in last] == [
        ("api", "34997"),
        ("api", "34999"),
    ]
