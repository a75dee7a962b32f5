"""A client that places orders, one per request, in a process of its own.

It has one thread, and waits for all connections at once: a request costs it a fraction of what it
costs the server.
"""

import re
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from typing import Final
from urllib.parse import urlsplit

import msgspec

#: Seconds that all connections together may stay silent while answers are due.
_PATIENCE: Final = 30.0
_MOST_RECEIVED: Final = 64 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_CREATED: Final = 201


class Load(msgspec.Struct, kw_only=True):
    """What is to be sent: so many requests a second, or without a rate as many as are answered."""

    url: str
    connections: int
    seconds: float
    rate: float | None = None
    token: str | None = None
    body: str = '{"description": "A parcel"}'


class Sent(msgspec.Struct, kw_only=True):
    """What came of it.

    Attributes:
        statuses: how many answers there were of each HTTP status.
        seconds: from the first request to the last answer.
        latencies: the seconds of each request, sorted. At a rate they count from the moment at
            which the request was to be sent, however long it waited for a connection.
        cpu: the seconds of CPU that the client took.
    """

    statuses: dict[int, int]
    seconds: float
    latencies: list[float]
    cpu: float

    @property
    def accepted(self) -> int:
        """How many orders were placed."""
        return self.statuses.get(_CREATED, 0)


class NoAnswerError(Exception):
    """A server hung up, or fell silent."""


def send_orders(load: Load) -> Sent:
    """Send orders, and return what came of it.

    Raises:
        CalledProcessError: a server hung up, or fell silent.
    """
    client = subprocess.run(
        [sys.executable, "-m", "benchmarks.accepting"],
        input=msgspec.json.encode(load),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(client.stdout, type=Sent)


def _send(load: Load) -> Sent:
    request = _request_of(load)
    connections = [_connect(load.url) for _ in range(load.connections)]
    idle = deque(connections)
    begun: dict[socket.socket, float] = {}
    parts: dict[socket.socket, bytes] = {}
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    cpu, started = time.process_time(), time.perf_counter()
    now, end = started, started + load.seconds
    due, sent = started, 0
    while begun or due < end:
        while idle and due <= now and due < end:
            connection = idle.popleft()
            begun[connection] = due
            connection.sendall(request)
            sent += 1
            # Whoever has no rate sends the next as soon as there is an answer.
            due = started + sent / load.rate if load.rate else now
        pause = max(0.0, due - now) if idle and due < end else _PATIENCE
        ready, _, _ = select.select(begun, (), (), pause)
        now = time.perf_counter()
        if not ready and pause == _PATIENCE:
            raise NoAnswerError
        for connection in ready:
            answer = parts.pop(connection, b"") + _receive(connection)
            if (status := _status_of(answer)) is None:
                parts[connection] = answer
                continue
            statuses[status] += 1
            latencies.append(now - begun.pop(connection))
            idle.append(connection)
        if not load.rate:
            due = now
    cpu, seconds = time.process_time() - cpu, now - started
    for connection in connections:
        connection.close()
    return Sent(statuses=statuses, seconds=seconds, latencies=sorted(latencies), cpu=cpu)


def _request_of(load: Load) -> bytes:
    lines = [
        "POST /api/orders HTTP/1.1",
        f"Host: {urlsplit(load.url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(load.body.encode())}",
    ]
    if load.token:
        lines.append(f"Authorization: Bearer {load.token}")
    return "\r\n".join([*lines, "", load.body]).encode()


def _connect(url: str) -> socket.socket:
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=_PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(_MOST_RECEIVED)
    if not received:
        raise NoAnswerError
    return received


def _status_of(answer: bytes) -> int | None:
    """Return the status of an answer; None while it is not there as a whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length is None or len(body) < int(length[1]):
        return None
    return int(answer[9:12])


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(_send(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
    )
