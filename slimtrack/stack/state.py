"""What a running stack tells others: a file that it writes, and a lock that it holds."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from slimtrack.domain.errors import StackError
from slimtrack.stack.directory import StateDirectory

_STATE: Final = "stack.json"
_LOCK: Final = "stack.lock"


class Phase(StrEnum):
    """Where one process of the stack is."""

    STARTING = "starting"
    READY = "ready"
    #: It ended by itself and is started again after a moment.
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """One process; ``since`` is the Unix time at which its phase began."""

    name: str
    phase: Phase
    pid: int | None
    restarts: int
    since: float
    address: str


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """A whole stack.

    ``doing`` is what it does while it is not ready yet; ``api_key`` is one for development;
    ``environment`` holds its settings, as an operator's command has them, with the servers'
    passwords or their files; ``readonly_url`` is the database's for whoever only looks.
    """

    pid: int
    doing: str
    api_url: str
    api_key: str
    environment: dict[str, str]
    processes: list[ProcessState]
    #: Empty where the database is not the stack's own: its roles are somebody else's.
    readonly_url: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether every process does its work."""
        return bool(self.api_url) and all(each.phase is Phase.READY for each in self.processes)


@contextmanager
def hold_lock(state: StateDirectory) -> Iterator[None]:
    """Be the one stack of a state directory for a while.

    Raises:
        StackError: another one runs there.
    """
    descriptor = os.open(state.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = running_stack(state.path)
            process = f" (process {running.pid})" if running else ""
            raise StackError(
                f"A stack runs in {state.path} already{process}. "
                "Stop it with `slimtrack down`, or give this one another --state-dir."
            ) from None
        try:
            yield
        finally:
            (state.path / _STATE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_state(state: StateDirectory, stack: StackState) -> None:
    """Replace what the stack last said, as a whole."""
    state.write(_STATE, msgspec.json.encode(stack).decode())


def running_stack(directory: Path) -> StackState | None:
    """Return what the stack of a state directory says, None where none runs.

    The kernel drops the lock with the process that holds it, so what a killed one has left is
    not taken for a running one, whoever has its process id now.
    """
    if not _is_held(directory / _LOCK):
        return None
    try:
        return msgspec.json.decode((directory / _STATE).read_bytes(), type=StackState)
    except FileNotFoundError:  # it has not come to that yet
        return None


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
