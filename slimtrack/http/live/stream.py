"""One open `text/event-stream`: a socket that is written to without waiting."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from slimtrack.http.live.topic import Topic

#: Bytes that wait here for a reader, at most.
_MAX_PENDING: Final = 256 * 1024
#: Bytes that the system has for a reader: few, so that it is seen here who takes none.
_BUFFER: Final = 16 * 1024
#: Seconds after which the system cuts off whose machine takes nothing, or is gone.
_SILENCE: Final = 30.0
#: Seconds after which a stream ends, at most, and a page opens another. It is the only bound for
#: those whose machine takes what they never read.
_LIFETIME: Final = 600.0
#: So much of it is left to chance: pages that came together do not come back together.
_SPREAD: Final = 0.2


class Stream:
    """Somebody who watches a key of a topic.

    Args:
        taken: the connection; this closes it.
        topic: what is watched.
        key: which of it.
        chunked: whether the head of the answer has announced chunks.
        owner: to whom it counts.
        allowed: whether it may go on.
        silence: seconds for which the reader's machine may take nothing.
        lifetime: seconds after which it ends, at most.
    """

    def __init__(
        self,
        taken: socket.socket,
        *,
        topic: Topic,
        key: str,
        chunked: bool,
        owner: str,
        allowed: Callable[[], bool],
        silence: float = _SILENCE,
        lifetime: float = _LIFETIME,
    ) -> None:
        taken.setblocking(False)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        # Not every system has it, nor do sockets have it that never leave this machine.
        with suppress(AttributeError, OSError):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * silence))
        self.topic = topic
        self.key = key
        self.owner = owner
        self.ends_at = time.monotonic() + lifetime * random.uniform(1 - _SPREAD, 1)  # noqa: S311 - no secret
        self.allowed = allowed
        self.validated_at = 0.0
        self.alive = True
        self._taken = taken
        self._chunked = chunked
        self._pending = bytearray()
        self._silence = silence
        self._took_at = time.monotonic()

    def fileno(self) -> int:
        """Return what a selector wants."""
        return self._taken.fileno()

    @property
    def is_behind(self) -> bool:
        """Whether something waits until the reader takes it."""
        return bool(self._pending)

    @property
    def is_stuck(self) -> bool:
        """Whether the reader has taken nothing of what waits for too long."""
        return self.is_behind and time.monotonic() - self._took_at > self._silence

    def send(self, text: bytes) -> None:
        """Send a piece, or as much of it as the reader takes, and the rest later."""
        if not self._pending:
            self._took_at = time.monotonic()
        self._pending += b"%X\r\n%b\r\n" % (len(text), text) if self._chunked else text
        self.flush()

    def flush(self) -> None:
        """Send what waits; whoever takes too little of it is given up."""
        try:
            while self._pending:
                del self._pending[: self._taken.send(self._pending)]
                self._took_at = time.monotonic()
        except BlockingIOError:
            if len(self._pending) > _MAX_PENDING:
                self.alive = False
        except OSError:  # hung up
            self.alive = False

    def listen(self) -> None:
        """Part with a reader who has hung up, or who speaks: after the request nothing is said."""
        try:
            self._taken.recv(1)
        except BlockingIOError:
            return
        except OSError:  # cut off
            pass
        self.alive = False

    def close(self) -> None:
        """End the answer as it should, where the reader has taken all before, and hang up."""
        self.alive = False
        if self._chunked and not self._pending:
            with suppress(OSError):
                self._taken.send(b"0\r\n\r\n")
        self._taken.close()
