"""What a process tells its parent, and what it asks of the kernel about it."""

import ctypes
import os
import signal
import socket
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


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
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"READY=1", address)
