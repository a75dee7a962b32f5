"""What the processes write: one line of JSON for each thing, with whose order it is about."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_server import Server, is_running, serve
from falcon.testing import create_req
from observing import children_of, wait_until
from proxy import Proxy

from slimtrack.http.correlation import correlation_id_of
from slimtrack.settings import Settings
from slimtrack.stack.processes import publisher_command, worker_command, worker_environment

#: Ends a line, and commands a terminal.
HOSTILE = 'x"}\n{"event": "forged"}\r\x1b[2J\x85\u2028forged'
#: As much of it as an order may have.
TWO_LINES = 'x"}\n{"event": "forged"}'
#: Work that speaks while it works, and fails at its first attempt.
TALKING = f"""
import logging

def book(assignment):
    logging.getLogger("shop").warning("for %s", assignment.order.description)
    if assignment.attempt == 1:
        raise ArithmeticError(f"no street {{assignment.order.description!r}}" + {HOSTILE!r})
"""


@contextmanager
def started(
    environment: Mapping[str, str], directory: Path
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A publisher and one group of workers, as supervisors start them; their lines in files."""
    settings = Settings.from_environment(environment)
    commands: dict[str, Sequence[str]] = {
        "publisher": publisher_command(),
        "worker": worker_command(settings, queues=[]),
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (directory / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    command,
                    env={**environment, **worker_environment(settings)},
                    stdout=log,
                    stderr=log,
                )
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(timeout=40)


def read(log: Path) -> list[dict[str, Any]]:
    """Read a log; every line has to be JSON, with what every line has."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_bytes().splitlines()]
    for line in lines:
        assert line["timestamp"].endswith("Z"), line
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}, line
        assert line["event"], line
    return lines


def events(lines: Sequence[Mapping[str, Any]]) -> set[str]:
    return {line["event"] for line in lines}


def post(server: Server, body: object, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    head = [
        "POST /api/orders HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    answer = server.send("\r\n".join((*head, "", "")).encode(), content)
    assert answer.status == 201, answer.body
    request_id: str = answer.headers["X-Request-ID"]
    return request_id.encode()


def count_delivered(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM orders WHERE status = 'delivered'").fetchone()
    assert row
    return int(row[0])


def test_a_retried_order_is_followed_by_its_callers_id_in_every_line_about_it(
    environment: dict[str, str], connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(TALKING)
    environment |= {
        "SLIMTRACK_STAGE_WORK": "in_transit=shop:book",
        "SLIMTRACK_MIN_BACKOFF": "0.1",
        "PYTHONPATH": str(tmp_path),
    }
    with started(environment, tmp_path), serve(environment, tmp_path, workers=1) as server:
        body = {"description": TWO_LINES, "metadata": {"note": HOSTILE}}
        assert post(server, body, "X-Request-ID: caller-7") == b"caller-7"
        wait_until(lambda: count_delivered(connection) == 1)

    row = connection.execute("SELECT id::text FROM orders").fetchone()
    assert row
    lines = read(tmp_path / "worker.log")
    about = [line for line in lines if line.get("order_id") == row[0]]
    assert [(line["event"].split(" ")[0], line["attempt"]) for line in about] == [
        ("for", 1),
        ("attempt.failed", 1),
        ("for", 2),
    ]
    assert {(line["correlation_id"], line["stage"]) for line in about} == {
        ("caller-7", "in_transit")
    }
    failed = about[1]
    # What it quotes may be a caller's; the dead letter has it.
    assert failed["error"] == "ArithmeticError: no street ?}"
    assert failed["raised_in"].endswith("book")
    # Said once, and nothing of an order outside of what the work itself says.
    assert sum("ArithmeticError" in json.dumps(line) for line in lines) == 1
    assert not any("forged" in json.dumps(line) for line in lines if line["logger"] != "shop")
    read(tmp_path / "publisher.log")
    read(tmp_path / "gunicorn.log")


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-Request-ID: mine", f"traceparent: 00-{TRACE}-b7ad6b7169203331-00"], "mine"),
        ([f"traceparent: 00-{TRACE}-b7ad6b7169203331-00"], TRACE),
        ([f"traceparent: 01-{TRACE}-b7ad6b7169203331-00-more"], TRACE),
        (["X-Request-ID: a b\x7f", f"traceparent: 00-{TRACE}-b7ad6b7169203331-01"], TRACE),
        ([f"traceparent: 00-{TRACE}-b7ad6b7169203331-00-more"], None),
        ([f"traceparent: ff-{TRACE}-b7ad6b7169203331-00"], None),
        ([f"traceparent: 00-{'0' * 32}-b7ad6b7169203331-00"], None),
        ([f"traceparent: 00-{TRACE.upper()}-b7ad6b7169203331-00"], None),
        ([], None),
    ],
)
def test_a_request_without_an_id_bears_that_of_its_trace(
    headers: list[str], expected: str | None
) -> None:
    names = dict(header.split(": ", 1) for header in headers)
    request = create_req(headers=names)
    found = correlation_id_of(request)
    assert found == expected if expected else found not in {"mine", TRACE}
    assert len(found) <= 64


def test_every_line_is_json_whatever_happens_and_an_outage_is_no_flood(
    environment: dict[str, str],
    connection: psycopg.Connection[Any],
    database_url: str,
    amqp_url: str,
    tmp_path: Path,
) -> None:
    with Proxy(database_url) as database, Proxy(amqp_url) as broker:
        environment |= {"DATABASE_URL": database.url, "AMQP_URL": broker.url}
        with (
            started(environment, tmp_path) as processes,
            serve(environment, tmp_path, workers=1) as server,
        ):
            post(server, {"description": "before"})
            wait_until(lambda: count_delivered(connection) == 1)
            database.refuse()
            get = b"GET /api/orders HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: away\r\n\r\n"
            assert server.send(get).status == 503
            broker.refuse()
            forged = b'GET /\x1b[2J{"event": "forged"} HTTP/1.1\r\n\r\n'
            assert server.send(forged).status == 400
            for log in ("publisher", "worker"):
                wait_until(partial(says_of_the_broker, tmp_path / f"{log}.log"))
            database.accept()
            broker.accept()
            wait_until(lambda: server.send(get).status == 200)
            # A worker process that somebody kills is said by the one that started it.
            for pid in children_of(processes["worker"].pid):
                os.kill(pid, signal.SIGKILL)
            processes["worker"].wait(timeout=40)
            [gone] = server.workers()
            os.kill(gone, signal.SIGKILL)
            wait_until(lambda: not is_running(gone))
            wait_until(lambda: "Perhaps out of memory" in server.log.read_text())

    api, publisher, worker = (
        read(tmp_path / f"{name}.log") for name in ("gunicorn", "publisher", "worker")
    )
    assert "forged" not in events(api)
    [served] = [line for line in api if line["event"] == "request.served"]
    assert (served["status"], served["correlation_id"]) == (503, "away")
    assert any("error connecting" in event and "refused" in event for event in events(api))
    assert {"publisher.started", "listen.failed", "publisher.stopped"} <= events(publisher)
    assert any(line["level"] == "critical" and "exited" in line["event"] for line in worker)
    for lines in (api, publisher, worker):
        assert len(lines) < 40, [line["event"] for line in lines]


def says_of_the_broker(log: Path) -> bool:
    return "connection error" in log.read_text() or "broker.disconnected" in log.read_text()


#: What libraries, Python and our own code may say that is not meant well.
SPEAKING = """
import logging, sys, threading, warnings
from slimtrack.telemetry import logs
import structlog

logs.configure(level="info", form=sys.argv[1])
hostile = sys.argv[2]
structlog.get_logger().warning("thing.seen", given=hostile)
logging.getLogger("library").error("%s", hostile)
logging.getLogger("library").error("postgresql://shop:verysecret@host/?password=verysecret")
structlog.get_logger().error("key.seen", given="Bearer stk_1_verysecret")
warnings.warn(hostile)

def fail():
    password = "verysecret"
    try:
        raise ValueError("no row\\nDETAIL: Failing row contains (Grandmother)" + hostile)
    except ValueError as error:
        raise KeyError(hostile) from error

thread = threading.Thread(target=fail, name="helper")
thread.start()
thread.join()
fail()
"""


def speak(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SPEAKING, form, HOSTILE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


def test_whatever_is_said_is_a_line_of_its_own_and_no_secret() -> None:
    said = speak("json")

    lines = [json.loads(line) for line in said.splitlines()]
    assert [(line["event"], line["level"]) for line in lines if line["logger"] != "library"] == [
        ("thing.seen", "warning"),
        ("key.seen", "error"),
        ("warning.raised", "warning"),
        ("thread.failed", "critical"),
        ("process.failed", "critical"),
    ]
    assert len(lines) == 7
    assert lines[0]["given"] == HOSTILE
    assert "ValueError: no row" in lines[-1]["exception"]
    for private in ("verysecret", "Grandmother"):
        assert private not in said


def test_on_a_terminal_no_value_ends_its_line_or_commands_it() -> None:
    ours, terminal = pty.openpty()
    with os.fdopen(terminal, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SPEAKING, "auto", HOSTILE], stdout=output, stderr=output
        )
    said = b""
    with os.fdopen(ours, "rb") as shown:
        try:
            while piece := os.read(shown.fileno(), 65536):
                said += piece
        except OSError:  # the other side is closed
            pass
    process.wait(timeout=30)

    lines = said.decode().replace("\r\n", "\n").splitlines()
    assert b"thing.seen" in said
    assert b"\x1b[2J" not in said
    assert b"forged" in said
    assert not any(line.lstrip().startswith(('{"event', "forged")) for line in lines)
    assert not any("verysecret" in line or "Grandmother" in line for line in lines)
    # What an error says is indented: no line of it looks like one of ours.
    begun = [line for line in lines if line.startswith("\x1b[2m20")]
    assert len(begun) == 7
