"""What a process tells its parent, and what it asks of the kernel about it."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_PR_SET_PDEATHSIG: Final = 1


class _Stat(NamedTuple):
    """Some of ``/proc/PID/stat`` (proc_pid_stat(5)): its fields 3, 6, 22 and 24."""

    state: str
    session: int
    started: int
    resident_pages: int


def die_with_parent(sig: signal.Signals) -> None:
    """Have the kernel send ``sig`` to this process when the thread that created it ends.

    A change of user takes the wish back (prctl(2)), so it is made after that. Linux only;
    elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)


def notify_ready() -> None:
    """Tell whoever started this process that it now does its work (``READY=1``, sd_notify(3)).

    Does nothing without a supervisor that set ``NOTIFY_SOCKET``.
    """
    _notify(b"READY=1")


def notify_alive() -> None:
    """Give a sign of life to whoever watches this process; to be called every second or so.

    ``WATCHDOG=1`` (sd_notify(3)) for a service manager that asks for it, of whichever of its
    processes; for a health check that can only look at files, ``SLIMTRACK_HEARTBEAT_FILE`` is
    touched. A sign that cannot be given is one that is missed there; the work goes on.
    """
    with suppress(OSError):
        if os.environ.get("WATCHDOG_USEC"):
            _notify(b"WATCHDOG=1", socket.MSG_DONTWAIT)
    with suppress(OSError):
        if path := os.environ.get("SLIMTRACK_HEARTBEAT_FILE"):
            Path(path).touch()


def memory_of_this_process() -> int | None:
    """Return the bytes of memory that this process holds, None where nobody can tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_of_sessions(leaders: Collection[int]) -> dict[int, int]:
    """Return the bytes that all processes of each session hold, what they share counted again."""
    page = os.sysconf("SC_PAGE_SIZE")
    held = dict.fromkeys(leaders, 0)
    for entry in os.scandir("/proc") if held and sys.platform == "linux" else ():
        if entry.name.isdecimal():
            stat = _stat_of(int(entry.name))
            if stat and stat.session in held:
                held[stat.session] += page * stat.resident_pages
    return held


def stands_still(pid: int) -> bool:
    """Tell whether a process was stopped by a signal, or by a debugger (Linux, else never)."""
    stat = _stat_of(pid)
    return stat is not None and stat.state in {"T", "t"}


def started_at(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where there is none (Linux)."""
    stat = _stat_of(pid)
    return stat.started if stat else None


def is_running(pid: int) -> bool:
    """Tell whether there is a process of this id, and it has not ended yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _stat_of(pid: int) -> _Stat | None:
    """Return what the kernel says of a process, which may end meanwhile: None then."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # From the third on, as it is counted there: the second is a name with anything in it.
        fields = text.rpartition(")")[2].split()
        return _Stat(fields[0], int(fields[3]), int(fields[19]), int(fields[21]))
    except (OSError, IndexError):
        return None


def _notify(state: bytes, flags: int = 0) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(state, flags, address)
