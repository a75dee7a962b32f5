"""The API as it runs: gunicorn, its workers, and whatever bytes arrive at its port."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from api_server import COMMAND, GET, Server, serve

from slimtrack.routing import BY_QUEUE

WORKERS = 2
POST = b"POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ORDER = b'{"description":"Two boxes"}'


def test_orders_are_placed_with_a_length_and_in_chunks(
    server: Server, connection: psycopg.Connection
) -> None:
    with_length = server.send(POST + b"Content-Length: %d\r\n\r\n" % len(ORDER) + ORDER)
    in_chunks = server.send(
        CHUNKED, b"5\r\n", ORDER[:5], b"\r\n16\r\n", ORDER[5:], b"\r\n0\r\n\r\n"
    )
    assert (with_length.status, in_chunks.status) == (201, 201)
    assert with_length.headers["Server"] == "gunicorn"
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (2,)


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    with serve(environment, tmp_path, workers=WORKERS) as started:
        yield started


FRAMING = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
    "no request line": (b"hello\r\n\r\n", 400),
    "an unknown version": (b"GET /health/live HTTP/9.9\r\n\r\n", 400),
    "a long request line": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "a long header": (GET + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "many headers": (GET + b"".join(b"A%d: a\r\n" % each for each in range(65)) + b"\r\n", 431),
    "a blank in a header's name": (GET + b"A B: c\r\n\r\n", 400),
    "a folded header": (GET + b"A: b\r\n c\r\n\r\n", 400),
    "NUL in a header": (GET + b"X-Request-ID: a\0b\r\n\r\n", 400),
    "two hosts": (GET + b"Host: b\r\n\r\n", 400),
    "an expectation": (GET + b"Expect: a\r\n\r\n", 417),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "an underscore in the length": (POST + b"Content-Length: 1_0\r\n\r\n", 400),
    "a superscript length": (POST + b"Content-Length: \xb2\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a length and chunks": (CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "an unknown end": (POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400),
    "two types": (POST + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a body cut short": (POST + b"Content-Length: 99\r\n\r\n" + ORDER, 400),
    "a huge length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
    "no length": (POST + b"\r\n", 400),
    "no chunk size": (CHUNKED + b"xyz\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"5\r\n" + ORDER + b"\r\n0\r\n\r\n", 400),
    "a chunk cut short": (CHUNKED + b"1b\r\n" + ORDER[:9], 400),
    "no last chunk": (CHUNKED + b"1b\r\n" + ORDER + b"\r\n", 400),
    "a length at the end": (
        CHUNKED + b"1b\r\n" + ORDER + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
        400,
    ),
    "a method of Falcon's own": (b"WEBSOCKET /api/orders HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a tunnel": (b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
}


def test_bad_framing_is_refused_and_never_a_row(
    server: Server, connection: psycopg.Connection
) -> None:
    answers = {name: server.send(request) for name, (request, _) in FRAMING.items()}
    assert {name: answer.status for name, answer in answers.items()} == {
        name: status for name, (_, status) in FRAMING.items()
    }
    for answer in answers.values():
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answer.body)["status"] == answer.status
        assert json.loads(answer.body)["type"].startswith("urn:slimtrack:problem:")
        assert json.loads(answer.body)["detail"]
        assert json.loads(answer.body)["request_id"] == answer.headers["X-Request-ID"]
    assert server.send(GET + b"\r\n").status == 200
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_a_chunked_body_without_end_is_refused_once_it_is_too_large(
    server: Server, connection: psycopg.Connection
) -> None:
    answer = server.send(CHUNKED, *[b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 640)
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["type"] == "urn:slimtrack:problem:body-too-large"
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_callers_that_stall_do_not_keep_the_others_out(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with serve(environment, tmp_path, workers=1) as server, ExitStack() as stalled:
        for part in (b"POST /api/or", POST + b"Content-Length: 9\r\n\r\n{"):
            caller = socket.create_connection(("127.0.0.1", server.port))
            stalled.enter_context(caller).sendall(part)
        assert server.send(GET + b"\r\n").status == 200


def test_a_caller_who_is_too_slow_is_cut_off(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SLIMTRACK_REQUEST_TIME_LIMIT": "2"}
    with serve(environment, tmp_path, workers=1) as server:
        for start in (b"POST /api/orders HTTP/1.1\r\nA: ", POST + b"Content-Length: 99\r\n\r\n"):
            begun = time.monotonic()
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
                caller.sendall(start)
                with suppress(BrokenPipeError, ConnectionResetError):
                    while time.monotonic() < begun + 10:  # never idle, never ready
                        caller.sendall(b"a")
                        time.sleep(0.1)
            assert 1.5 < time.monotonic() - begun < 6


def test_callers_that_do_not_hang_up_do_not_keep_the_others_waiting(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with serve(environment, tmp_path, workers=1) as server, ExitStack() as open_ended:
        for _ in range(20):
            caller = socket.create_connection(("127.0.0.1", server.port))
            open_ended.enter_context(caller).sendall(GET + b"Connection: close\r\n\r\n")
            assert caller.recv(12) == b"HTTP/1.1 200"
        begun = time.monotonic()
        for _ in range(5):
            assert server.send(GET + b"\r\n").status == 200
        assert time.monotonic() - begun < 1


def test_every_answer_tells_browsers_to_trust_and_keep_nothing(server: Server) -> None:
    for request in (
        GET + b"\r\n",
        b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        POST + b"Content-Length: 2\r\n\r\n{}",
        b"hello\r\n\r\n",  # refused by gunicorn
    ):
        headers = server.send(request).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] in {"gunicorn", None}


def test_readiness_names_the_real_servers(server: Server) -> None:
    answer = server.send(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert json.loads(answer.body) == {
        "status": "degraded",
        "dependencies": {"postgresql": "up", "rabbitmq": "up", "redis": "up"},
        # Only the API runs here.
        "processes": {"publisher": "down", **dict.fromkeys(BY_QUEUE, "down")},
    }


def test_a_terminated_server_leaves_nothing_behind(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == WORKERS
    server.process.terminate()
    server.wait_until_gone(workers)
    assert server.process.returncode == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert "Shutting down: Master" in {line["event"] for line in lines}


def test_the_workers_end_with_a_master_that_is_killed(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == WORKERS
    os.kill(server.process.pid, signal.SIGKILL)
    server.wait_until_gone(workers)


def test_without_keys_orders_move_as_the_default_tenants_do(
    environment: dict[str, str], connection: psycopg.Connection, tmp_path: Path
) -> None:
    connection.execute("UPDATE tenants SET flow = 'reported' WHERE name = 'default'")
    with serve(environment, tmp_path, workers=1) as server:
        placed = server.send(POST, b"Content-Length: %d\r\n\r\n" % len(ORDER), ORDER)
        assert json.loads(placed.body)["flow"] == "reported"
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_wrong_setting_is_one_line_at_start(environment: dict[str, str]) -> None:
    environment |= {"SLIMTRACK_API_THREADS": "many", "DATABASE_URL": "swordfish"}
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    database, threads = done.stderr.splitlines()
    assert database.startswith("DATABASE_URL must be")
    assert threads.startswith("SLIMTRACK_API_THREADS must be")
    assert "swordfish" not in done.stderr
