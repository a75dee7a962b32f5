"""The API as it runs: gunicorn and its workers, on a free port."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from observing import children_of, wait_until

from slimtrack.stack.directory import free_ports

COMMAND = [
    *(sys.executable, "-m", "gunicorn", "--config", "python:slimtrack.http.server"),
    "slimtrack.wsgi:create_app()",
]
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def is_running(pid: int) -> bool:
    """Tell whether a process lives; one that ended may wait for long until somebody asks."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def send(self, *parts: bytes) -> Answer:
        """Send bytes as they are, and nothing after them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connected:
            # It may answer, and close, before it has read all.
            with suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    connected.sendall(part)
                connected.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connected)
            answer.begin()
            return Answer(answer.status, answer.headers, answer.read())

    def workers(self) -> list[int]:
        return children_of(self.process.pid)

    def wait_until_gone(self, workers: list[int]) -> None:
        self.process.wait(timeout=20)
        wait_until(lambda: not any(map(is_running, workers)), timeout=5)
        # Its first thread may have ended, and others not yet: the port is theirs for a moment.
        wait_until(lambda: not self.listens(), timeout=5)

    def listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True


@contextmanager
def serve(
    environment: Mapping[str, str],
    tmp_path: Path,
    *,
    workers: int,
    command: Sequence[str] = COMMAND,
) -> Iterator[Server]:
    """Run gunicorn with two threads per worker, until the end of the block."""
    (port,) = free_ports(1)
    environment = {
        **environment,
        "SLIMTRACK_API_BIND": f"127.0.0.1:{port}",
        "SLIMTRACK_API_WORKERS": str(workers),
        "SLIMTRACK_API_THREADS": "2",
    }
    log = tmp_path / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    started = Server(process=process, port=port, log=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            with suppress(OSError):
                if started.send(GET + b"\r\n").status == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"gunicorn did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
