"""What a running stack says of itself, in a file that others read."""

import fcntl
import os
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

STATE_FILE: Final = "stack.json"
#: Held by the stack as long as it lives.
LOCK_FILE: Final = "stack.lock"


class Phase(StrEnum):
    """Where one process of the stack is."""

    STARTING = "starting"
    READY = "ready"
    #: It runs, and has given no sign of life for a while.
    STALLED = "stalled"
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
    #: Unknown of a stack that an older version runs.
    metrics: str = ""


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
    def dashboard_url(self) -> str:
        """Where the dashboard is; empty where there is none."""
        is_off = self.environment.get("SLIMTRACK_DASHBOARD") == "off"
        return "" if is_off else f"{self.api_url}/dashboard"

    @property
    def is_ready(self) -> bool:
        """Whether every process does its work."""
        return bool(self.api_url) and all(each.phase is Phase.READY for each in self.processes)


def running_stack(directory: Path) -> StackState | None:
    """Return what the stack of a state directory says, None where none runs.

    The kernel drops the lock with the process that holds it, so what a killed one has left is
    not taken for a running one, whoever has its process id now.
    """
    if not _is_held(directory / LOCK_FILE):
        return None
    try:
        return msgspec.json.decode((directory / STATE_FILE).read_bytes(), type=StackState)
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
