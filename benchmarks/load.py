"""Load: one process that sends orders, one by one or in bulk, over connections that stay open.

``python -m benchmarks.load URL …`` is that process; it writes a line for each answer: the order's
id, or that of the first in bulk, when its request was to leave, when its answer was there
(time.monotonic(), the same for every process). A request that could not leave in time counts from
when it was to.
"""

import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import typer

from benchmarks.figures import FaultError

_ORDER: Final = b'{"description": "A parcel"}'
_LENGTH: Final = b"content-length:"
_ID: Final = b'"id":"'
#: Seconds to connect, and to wait for one answer.
_TIMEOUT: Final = 30.0


def saturate(url: str, *, connections: int, seconds: float, token: str = "") -> float:
    """Send orders as fast as they are answered; return how many a second were placed.

    Raises:
        FaultError: an order was not placed.
    """
    command = _command(url, connections=connections, token=token, seconds=seconds)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise FaultError(f"The load ended early: {done.stderr.strip()[-500:]}")
    lines = done.stdout.splitlines()
    first, last = (float(line.split()[column]) for line, column in ((lines[0], 1), (lines[-1], 2)))
    return len(lines) / (last - first)


class Answers:
    """What an offered load was answered so far.

    Attributes:
        began: when its first request was to leave.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout  # noqa: S101 - a pipe was asked for
        self._process = process
        self._pipe = process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self._response_times: list[float] = []
        self.began = inf

    def take(self) -> dict[UUID, float]:
        """Return the orders that were answered since, and when; the first of each request.

        Raises:
            FaultError: an order was not placed.
        """
        try:
            text = self._rest + os.read(self._pipe, 1 << 20)
        except BlockingIOError:
            return {}
        if self._process.poll():
            raise FaultError("The load ended early.")
        *lines, self._rest = text.split(b"\n")
        answered: dict[UUID, float] = {}
        for line in lines:
            order_id, due, now = line.decode().split()
            answered[UUID(order_id)] = float(now)
            self.began = min(self.began, float(due))
            self._response_times.append(float(now) - float(due))
        return answered

    def response_times(self) -> list[float]:
        """Return the seconds from when each request was to leave to its answer."""
        return self._response_times


@contextmanager
def offer(
    url: str, *, connections: int, rate: float, count: int, bulk: int = 0, token: str = ""
) -> Iterator[Answers]:
    """Send requests at a rate, open loop: on schedule, whatever became of those before.

    Each is one order or, where ``bulk`` is given, so many.
    """
    command = _command(url, connections=connections, token=token, rate=rate, count=count, bulk=bulk)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
        try:
            yield Answers(process)
        finally:
            process.kill()


def _command(url: str, **options: object) -> list[str]:
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return [sys.executable, "-m", __name__, url, *given]


class _Request(NamedTuple):
    """What is sent each time, and how its answer and the answer's body begin if all is well."""

    text: bytes
    answer: bytes
    body: bytes


def _request(host: str, *, bulk: int, token: str) -> _Request:
    body = b"[%s]" % b",".join([_ORDER] * bulk) if bulk else _ORDER
    head = [
        f"POST /api/orders{'/bulk' if bulk else ''} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    text = "\r\n".join([*head, "", ""]).encode() + body
    if bulk:
        return _Request(text, b"HTTP/1.1 200 ", b'{"placed":%d,' % bulk)
    return _Request(text, b"HTTP/1.1 201 ", b"{")


class _Connection:
    """A connection that carries one request at a time."""

    def __init__(self, address: tuple[str, int], request: _Request) -> None:
        self._request = request
        self.socket = socket.create_connection(address, timeout=_TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._received = b""

    def send(self, due: float) -> None:
        self.due = due
        self.socket.sendall(self._request.text)

    def receive(self) -> bytes | None:
        """Return the answer once it is whole."""
        part = self.socket.recv(65_536)
        if not part:
            raise FaultError("The server closed a connection.")
        self._received += part
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(_LENGTH)[2].split()[0]):
            return None
        answer, self._received = self._received, b""
        if not answer.startswith(self._request.answer) or not body.startswith(self._request.body):
            raise FaultError(f"A request was answered {answer[:600].decode()}")
        return body


def _send(
    connections: list[_Connection], due_times: Iterator[float]
) -> Iterator[tuple[bytes, float, float]]:
    """Send a request when it is due and a connection is free; give id, due and answer time."""
    idle = deque(connections)
    due = next(due_times, None)
    with selectors.DefaultSelector() as selector:
        for each in connections:
            selector.register(each.socket, selectors.EVENT_READ, each)
        while due is not None or len(idle) < len(connections):
            while due is not None and idle and due <= time.monotonic():
                idle.popleft().send(due)
                due = next(due_times, None)
            wait = max(0.0, due - time.monotonic()) if due is not None and idle else _TIMEOUT
            for key, _ in selector.select(wait):
                body = key.data.receive()
                if body is not None:
                    order_id = body.partition(_ID)[2][:36]
                    yield order_id, key.data.due, time.monotonic()
                    idle.append(key.data)


def _until(deadline: float) -> Iterator[float]:
    while (now := time.monotonic()) < deadline:
        yield now


def load(  # noqa: PLR0917 - parameters are options
    url: str,
    connections: Annotated[int, typer.Option()],
    token: Annotated[str, typer.Option()] = "",
    seconds: Annotated[float, typer.Option()] = 0.0,
    rate: Annotated[float, typer.Option()] = 0.0,
    count: Annotated[int, typer.Option()] = 0,
    bulk: Annotated[int, typer.Option()] = 0,
) -> None:
    """Send requests: for so many seconds as fast as they are answered, or so many at a rate."""
    parts = urlsplit(url)
    request = _request(parts.netloc, bulk=bulk, token=token)
    address = (parts.hostname or "", parts.port or 80)
    opened = [_Connection(address, request) for _ in range(connections)]
    begin = time.monotonic()
    due_times = (
        (begin + number / rate for number in range(count)) if rate else _until(begin + seconds)
    )
    pipe = sys.stdout.fileno()
    for order_id, due, now in _send(opened, due_times):
        os.write(pipe, b"%s %.6f %.6f\n" % (order_id, due, now))  # at once


if __name__ == "__main__":
    typer.run(load)
