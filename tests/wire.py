"""What PostgreSQL and RabbitMQ are asked, counted from the bytes that pass a proxy."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct, unpack_from
from typing import Final

from proxy import Watchers

#: Who, and what: an application's name or a side of AMQP; a word for what was counted.
Counts = Counter[tuple[str, str]]

#: The methods of AMQP that move messages, by class and number.
_METHODS: Final = {
    (60, 40): "publish",
    (60, 50): "return",
    (60, 60): "deliver",
    (60, 80): "ack",
    (60, 90): "reject",
    (60, 120): "nack",
}


class Wire:
    """Counts, for all connections of a proxy."""

    def __init__(self) -> None:
        self._counts: Counts = Counter()
        self._lock = threading.Lock()

    def count(self, who: str, what: str) -> None:
        with self._lock:
            self._counts[who, what] += 1

    def counts(self) -> Counts:
        """Return the counts so far, once nothing has come for a while, or in five seconds."""
        seen = self._copy()
        for _ in range(20):
            time.sleep(0.25)
            before, seen = seen, self._copy()
            if seen == before:
                break
        return seen

    def _copy(self) -> Counts:
        with self._lock:
            return self._counts.copy()


class PostgresqlWire(Wire):
    """Counts round trips, transactions and statements by their verb, for each application_name.

    A round trip that only prepares a statement, once for each connection, is counted apart. The
    clients may not ask for TLS: their first message is the one with their name.
    """

    def watch(self) -> Watchers:
        application = bytearray()
        from_server = _Frames(">xI", beside=1)
        before = b""

        def on_client(data: bytes) -> None:
            if not application:
                values = data[8:].split(b"\0")
                application.extend(values[values.index(b"application_name") + 1])

        def on_server(data: bytes) -> None:
            nonlocal before
            count = partial(self.count, application.decode())
            for frame in from_server.read(data):
                kind = frame[:1]
                if kind == b"C":  # CommandComplete
                    count(frame[5:].rstrip(b"\0").decode().split()[0])
                elif kind == b"Z" and before == b"1":  # ReadyForQuery after ParseComplete
                    count("preparation")
                elif kind == b"Z":
                    count("round trip")
                    if frame[5:] == b"I":  # no transaction is open any more
                        count("transaction")
                before = kind

        return on_client, on_server


class AmqpWire(Wire):
    """Counts the methods of AMQP that move messages, for the clients and for the server."""

    def watch(self) -> Watchers:
        from_client = _Frames(">xxxI", beside=8, skip=len(b"AMQP\0\0\x09\x01"))
        from_server = _Frames(">xxxI", beside=8)
        return self._reader("clients", from_client), self._reader("server", from_server)

    def _reader(self, who: str, frames: "_Frames") -> Callable[[bytes], None]:
        def read(data: bytes) -> None:
            for frame in frames.read(data):
                if frame[0] == 1 and (method := _METHODS.get(unpack_from(">HH", frame, 7))):
                    self.count(who, method)

        return read


class _Frames:
    """Cuts a stream of bytes into the frames that it is made of.

    Args:
        head: how a frame begins; its only field is a length.
        beside: the bytes of a frame that its length does not count.
        skip: the bytes before the first frame.
    """

    def __init__(self, head: str, *, beside: int, skip: int = 0) -> None:
        self._head = Struct(head)
        self._beside = beside
        self._skip = skip
        self._left = bytearray()

    def read(self, data: bytes) -> Iterator[bytes]:
        """Return the frames that are whole now."""
        self._left += data
        if self._skip:
            if len(self._left) < self._skip:
                return
            del self._left[: self._skip]
            self._skip = 0
        while len(self._left) >= self._head.size:
            end = self._head.unpack_from(self._left)[0] + self._beside
            if len(self._left) < end:
                return
            yield bytes(self._left[:end])
            del self._left[:end]
