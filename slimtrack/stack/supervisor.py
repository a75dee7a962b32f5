"""Starts processes, restarts what dies or stands still, and stops them in order."""

import os
import pwd
import secrets
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Final

from slimtrack.domain.errors import StackError
from slimtrack.local.state import Phase, ProcessState
from slimtrack.process import is_running, stands_still
from slimtrack.stack.service import Service

#: Seconds before a process that died is started again: doubled with every death, and forgotten
#: after it has lived for a while.
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 15.0
_HEALTHY: Final = 30.0
#: Seconds without a sign of life after which a process is said to stand still.
_SILENCE: Final = 10.0
#: Seconds between two looks at what was asked to start or stop.
_INTERVAL: Final = 0.05
#: What the kernel says of who sent something: process, user and group.
_CREDENTIALS: Final = struct.Struct("3i")
_CREDENTIALS_SPACE: Final = socket.CMSG_SPACE(_CREDENTIALS.size)
#: Bytes of a line beyond which it is written as two, and lines kept to explain a failed start.
_LONGEST_LINE: Final = 65_536
_KEPT_LINES: Final = 20


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait after this many deaths in a row."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(deaths - 1, 10))


class _Child:
    """A service and the process that runs it now."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: subprocess.Popen[bytes] | None = None
        self.notify: socket.socket | None = None
        self.phase = Phase.STOPPED
        self.since = time.time()
        self.restarts = 0
        self.deaths = 0
        #: When a process that died is started again (time.monotonic()).
        self.due = 0.0
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.has_said_ready = False
        #: When it was last seen not to be stopped, by a signal or a debugger (time.monotonic()).
        self.went_at = 0.0
        #: When each of its processes gave the last sign of life, by id (time.monotonic()).
        self.signs: dict[int, float] = {}

    @property
    def state(self) -> ProcessState:
        return ProcessState(
            name=self.service.name,
            phase=self.phase,
            pid=self.process.pid if self.process else None,
            restarts=self.restarts,
            since=self.since,
            address=self.service.address,
            metrics=self.service.metrics,
        )

    def is_ready(self) -> bool:
        if self.service.ready is not None:
            return self.service.ready()
        self._hear()
        return self.has_said_ready

    def silence(self) -> float:
        """Return the seconds for which one of its processes has given no sign of life."""
        self._hear()
        now = time.monotonic()
        # Also of one that says nothing by itself: a server, or the parent of a group of workers.
        if not (self.process and stands_still(self.process.pid)):
            self.went_at = now
        if not self.service.watchdog:
            return now - self.went_at
        self.signs = {
            pid: at for pid, at in self.signs.items() if now - at < _SILENCE or is_running(pid)
        }
        return now - min((self.went_at, *self.signs.values()))

    def _hear(self) -> None:
        """Take all that its processes have said, each of which the kernel names."""
        while self.notify:
            try:
                said, ancillary, _, _ = self.notify.recvmsg(4096, _CREDENTIALS_SPACE)
            except BlockingIOError:
                return
            self.has_said_ready |= b"READY=1" in said
            for level, kind, credentials in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = _CREDENTIALS.unpack(credentials)
                    self.signs[pid] = time.monotonic()


class Supervisor:
    """Keeps services running.

    The kernel ends a child when the *thread* that started it ends (prctl(2), PR_SET_PDEATHSIG),
    so every method is called from one thread, which lives as long as the supervisor.

    Args:
        on_line: told every line that a process writes, from a thread of that process's.
        on_change: told of every change of a process's phase; an ``OSError`` of it, as on a full
            disk, ends nothing.
    """

    def __init__(
        self,
        *,
        on_line: Callable[[str, str], None],
        on_change: Callable[[ProcessState], None] = lambda _: None,
    ) -> None:
        self._on_line = on_line
        self._on_change = on_change
        self._groups: list[list[_Child]] = []

    @property
    def states(self) -> list[ProcessState]:
        """Every process, in the order in which they were started."""
        return [child.state for group in self._groups for child in group]

    def start(self, *groups: Sequence[Service]) -> None:
        """Start services and wait until each is ready.

        Services of one group are stopped at the same time, after all groups that were started
        later.

        Raises:
            StackError: one ended before it was ready, or took too long; its last lines are named.
        """
        started = [[_Child(service) for service in group] for group in groups if group]
        self._groups += started
        waiting = [child for group in started for child in group]
        for child in waiting:
            self._launch(child)
        while waiting:
            for child in waiting:
                if child.is_ready():
                    self._enter(child, Phase.READY)
                else:
                    _check_start(child)
            waiting = [child for child in waiting if child.phase is not Phase.READY]
            time.sleep(_INTERVAL)

    def poll(self) -> None:
        """Look after every process once: restart what died and is due, note what is ready."""
        for group in self._groups:
            for child in group:
                self._look_after(child)

    def stop(self) -> None:
        """Stop everything, the group that was started last first; what does not end is killed."""
        for group in reversed(self._groups):
            for child in group:
                self._ask_to_stop(child)
            for child in group:
                self._wait_for_end(child)

    def kill(self) -> None:
        """End everything at once."""
        for group in self._groups:
            for child in group:
                if child.process and child.process.poll() is None:
                    child.process.kill()

    def _enter(self, child: _Child, phase: Phase) -> None:
        child.phase = phase
        child.since = time.time()
        try:
            self._on_change(child.state)
        except OSError as error:
            self._on_line(child.service.name, f"is {phase} now, which cannot be noted: {error}")

    def _launch(self, child: _Child) -> None:
        service = child.service
        env = dict(service.env)
        if service.ready is None:
            # In the abstract namespace: nothing to clean up, and reachable for every user.
            name = f"slimtrack-{secrets.token_hex(8)}"
            child.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            child.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            child.notify.bind(f"\0{name}")
            env["NOTIFY_SOCKET"] = f"@{name}"
            env.pop("WATCHDOG_USEC", None)
            if service.watchdog:
                env["WATCHDOG_USEC"] = str(int(1e6 * service.watchdog))
        child.has_said_ready = False
        child.signs.clear()
        child.went_at = time.monotonic()
        account = pwd.getpwnam(service.user) if service.user else None
        # setpriv comes after the change of user, which would take its wish back.
        # Our own processes keep nothing that a kill could harm; a server ends as it likes to.
        sig = signal.SIGKILL if service.ready is None else service.stop_signal
        death = sig.name.removeprefix("SIG")
        child.process = subprocess.Popen(  # noqa: S603 - what to run comes from our own modules
            ("/usr/bin/env", "setpriv", f"--pdeathsig={death}", "--", *service.command),
            env=env,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in our terminal is for us alone; we stop everything in order.
            start_new_session=True,
        )
        assert child.process.stdout  # noqa: S101 - a pipe was asked for
        threading.Thread(
            target=self._read_lines,
            args=(child, child.process.stdout),
            name=f"log-{service.name}",
            daemon=True,
        ).start()
        self._enter(child, Phase.STARTING)

    def _read_lines(self, child: _Child, pipe: IO[bytes]) -> None:
        with pipe:
            while line := pipe.readline(_LONGEST_LINE):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                child.last_lines.append(text)
                self._on_line(child.service.name, text)

    def _look_after(self, child: _Child) -> None:
        if child.phase is Phase.RESTARTING:
            if time.monotonic() >= child.due:
                child.restarts += 1
                self._start_again(child)
        elif child.process and child.process.poll() is not None:
            if child.phase is Phase.READY and time.time() - child.since > _HEALTHY:
                child.deaths = 0
            self._put_off(child, f"ended by itself ({_how(child.process.returncode)})")
        elif child.phase is Phase.STARTING:
            if child.is_ready():
                self._enter(child, Phase.READY)
            elif child.process:
                self._hurry(child, child.process)
        elif child.process:
            self._watch(child, child.process)

    def _start_again(self, child: _Child) -> None:
        try:
            self._launch(child)
        except (OSError, RuntimeError) as error:  # no memory, no process or thread to be had
            self._put_off(child, f"cannot be started: {error}")

    def _put_off(self, child: _Child, problem: str) -> None:
        child.deaths += 1
        delay = restart_delay(child.deaths)
        self._on_line(child.service.name, f"{problem}; starts again in {delay:g} s")
        self._clean_up(child)
        child.due = time.monotonic() + delay
        self._enter(child, Phase.RESTARTING)

    def _hurry(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        """Kill what was started again and is not ready in time; never a server, which may heal."""
        limit = child.service.ready_timeout
        if child.service.ready is None and time.time() - child.since > limit:
            self._on_line(child.service.name, f"is not ready after {limit:g} s; killed")
            process.kill()

    def _watch(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        silence = child.silence()
        limit = child.service.watchdog
        if limit and silence > limit:
            self._on_line(child.service.name, f"has given no sign of life for {limit:g} s; killed")
            process.kill()
        elif silence > _SILENCE and child.phase is Phase.READY:
            self._enter(child, Phase.STALLED)
        elif silence <= _SILENCE and child.phase is Phase.STALLED:
            self._enter(child, Phase.READY)

    def _ask_to_stop(self, child: _Child) -> None:
        if child.process and child.process.poll() is None:
            self._enter(child, Phase.STOPPING)
            # The process alone, not its group: a second signal would cut a running actor.
            child.process.send_signal(child.service.stop_signal)

    def _wait_for_end(self, child: _Child) -> None:
        if child.phase is Phase.STOPPED:
            return
        if child.process:
            try:
                child.process.wait(child.service.stop_timeout)
            except subprocess.TimeoutExpired:
                self._on_line(child.service.name, "does not stop; killed")
                child.process.kill()
                child.process.wait()
        self._clean_up(child)
        self._enter(child, Phase.STOPPED)

    def _clean_up(self, child: _Child) -> None:
        """End what a process has left behind; it led a session of its own."""
        if child.process:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process = None
        if child.notify:
            child.notify.close()
            child.notify = None


def _check_start(child: _Child) -> None:
    code = child.process.poll() if child.process else None
    if code is not None:
        problem = f"ended before it was ready ({_how(code)})"
    elif time.time() - child.since > child.service.ready_timeout:
        problem = f"was not ready after {child.service.ready_timeout:g} s"
    else:
        return
    time.sleep(_INTERVAL)  # for its last lines to arrive
    lines = "\n  ".join(child.last_lines)
    raise StackError(f"{child.service.name} {problem}. Its last lines:\n  {lines}")


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
