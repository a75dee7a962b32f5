"""How a stack tells others what it does: a file that it writes, and a lock that it holds."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from slimtrack.domain.errors import StackError
from slimtrack.local.state import LOCK_FILE, STATE_FILE, StackState, running_stack
from slimtrack.stack.directory import StateDirectory


@contextmanager
def hold_lock(state: StateDirectory) -> Iterator[None]:
    """Be the one stack of a state directory for a while.

    Raises:
        StackError: another one runs there.
    """
    descriptor = os.open(state.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
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
            (state.path / STATE_FILE).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_state(state: StateDirectory, stack: StackState) -> None:
    """Replace what the stack last said, as a whole."""
    state.write(STATE_FILE, msgspec.json.encode(stack).decode())
