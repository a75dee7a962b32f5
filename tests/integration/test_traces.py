"""What is traced, and what it costs; a server of our own takes a collector's place."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_server import Answer, Server, serve
from observing import count, wait_until
from trace_collector import KeptSpan, TraceCollector

from slimtrack import __version__
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.stack.processes import plan_publisher, plan_workers
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.dead_letters import DeadLetters

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01"
JOURNEY = ("processing", "in_transit", "out_for_delivery", "delivered")
SERVER, PRODUCER, CONSUMER = 2, 4, 5
PRIVATE = "Grandmother's ashes"
#: Work that fails at its first attempt, or always, and quotes the order when it does.
FAILING = """
import logging

def book(assignment):
    logging.getLogger("shop").warning("booked")
    if assignment.attempt == 1 or assignment.order.reference == "hopeless":
        raise ArithmeticError(f"stk_1_verysecret: no street {assignment.order.description!r}")
"""


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as running:
        yield running


@pytest.fixture
def traced(environment: dict[str, str], collector: TraceCollector) -> dict[str, str]:
    """The environment of a process that records whatever it is asked to, and nothing else."""
    return {
        **environment,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "SLIMTRACK_TRACES_PER_SECOND": "0",
        "SLIMTRACK_ENVIRONMENT": "rehearsal",
        "SLIMTRACK_MIN_BACKOFF": "0.1",
    }


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """A publisher and workers; what they write."""
    lines: list[str] = []
    supervisor = Supervisor(on_line=lambda _, line: lines.append(line))
    try:
        supervisor.start([plan_publisher(environment), *plan_workers(environment)])
        yield lines
    finally:
        supervisor.stop()


def place(server: Server, *headers: str, reference: str | None = None) -> Answer:
    answer = post(server, "/api/orders", {"description": PRIVATE, "reference": reference}, *headers)
    assert answer.status == 201, answer.body
    return answer


def post(server: Server, path: str, content: object, *headers: str) -> Answer:
    body = json.dumps(content).encode()
    head = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return server.send("\r\n".join((*head, "", "")).encode(), body)


def delivered(connection: psycopg.Connection[Any]) -> int:
    return count(connection, "orders WHERE status = 'delivered'")


def in_trace(spans: Sequence[KeptSpan]) -> list[KeptSpan]:
    return sorted((span for span in spans if span.trace_id == TRACE), key=lambda span: span.began)


def test_an_order_is_one_trace_from_its_request_to_its_delivery(
    traced: dict[str, str],
    connection: psycopg.Connection[Any],
    collector: TraceCollector,
    tmp_path: Path,
) -> None:
    with running(traced), serve(traced, tmp_path, workers=1) as server:
        placed = place(server, SAMPLED, "X-Request-ID: caller-7")
        # Neither of these is to be recorded.
        place(server, f"traceparent: 00-{'1' * 32}-{PARENT}-00")
        place(server)
        wait_until(lambda: delivered(connection) == 3)

    spans = in_trace(collector.spans)
    order_id = json.loads(placed.body)["id"]
    [request] = [span for span in spans if span.kind == SERVER]
    published = [span for span in spans if span.name == "publish"]
    stages = [span for span in spans if span.kind == CONSUMER]
    assert len(spans) == 9
    assert (request.name, request.parent_id) == ("POST /api/orders", PARENT)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/orders",
        "http.response.status_code": 201,
        "slimtrack.correlation_id": "caller-7",
    }
    assert tuple(span.name for span in stages) == JOURNEY
    assert {span.kind for span in published} == {PRODUCER}
    queues = [f"orders.{stage}" for stage in JOURNEY]
    for each in (stages, published):
        assert [span.attributes["messaging.destination.name"] for span in each] == queues
    for span in (*published, *stages):
        assert span.parent_id == request.span_id
        assert span.attributes["messaging.system"] == "rabbitmq"
        assert span.attributes["slimtrack.order_id"] == order_id
        assert span.attributes["slimtrack.correlation_id"] == "caller-7"
        assert span.attributes["slimtrack.attempt"] == 1
        assert span.began <= span.ended
        assert not span.failed
        # Each is linked to what did it for others as well, which is a trace of its own.
        [(trace_id, span_id)] = span.links
        [done] = [each for each in collector.spans if each.span_id == span_id]
        assert done.trace_id == trace_id != TRACE
        assert done.attributes["messaging.batch.message_count"] >= 1
        assert done.process == span.process
        assert done.began <= span.ended <= done.ended + 1_000_000_000
    assert {span.process["service.name"] for span in published} == {"slimtrack-publisher"}
    assert {span.process["service.name"] for span in stages} == {"slimtrack-worker"}
    process = request.process
    assert process["service.name"] == "slimtrack-api"
    assert process["service.version"] == __version__
    assert process["deployment.environment"] == "rehearsal"
    assert process["service.instance.id"]
    # Whatever is not part of that trace is what it is linked to.
    linked = {span_id for span in spans for _, span_id in span.links}
    assert {span.span_id for span in collector.spans} - linked == {span.span_id for span in spans}
    assert b"ashes" not in collector.received


@pytest.mark.parametrize("with_work", [True, False])
def test_a_retry_and_a_replay_are_in_the_trace_of_what_failed(  # noqa: PLR0917 - fixtures
    traced: dict[str, str],
    connection: psycopg.Connection[Any],
    pool: Any,
    collector: TraceCollector,
    tmp_path: Path,
    with_work: bool,  # noqa: FBT001 - a case
) -> None:
    (tmp_path / "shop.py").write_text(FAILING)
    traced |= {"SLIMTRACK_MAX_RETRIES": "1", "PYTHONPATH": str(tmp_path)}
    if with_work:
        traced["SLIMTRACK_STAGE_WORK"] = "in_transit=shop:book"
    reference = "hopeless" if with_work else "test:fails_always"
    with running(traced) as lines, serve(traced, tmp_path, workers=1) as server:
        place(server, SAMPLED, "X-Request-ID: caller-7", reference=reference)
        wait_until(lambda: count(connection, "dead_letters") == 1)
        DeadLetters(pool, wake_up=lambda: None).replay(
            Selection(), action=OperatorAction(operator="tests")
        )
        wait_until(lambda: count(connection, "dead_letters") == 1)

    tried = [span for span in in_trace(collector.spans) if span.name == "in_transit"]
    assert [span.attributes["slimtrack.attempt"] for span in tried[:2]] == [1, 2]
    assert len(tried) == 4
    error = "ArithmeticError" if with_work else "SimulatedFailureError"
    for span in tried:
        assert span.failed
        assert span.attributes["error.type"] == error
        [(name, exception)] = span.events
        assert (name, exception["exception.type"]) == ("exception", error)
        assert span.links
    if with_work:
        assert tried[0].events[0][1]["exception.message"] == "?: no street ?"
    written = [json.loads(line) for line in lines if line.startswith("{")]
    about = [line for line in written if line.get("trace_id") == TRACE]
    failed = [line for line in about if line["event"] == "attempt.failed"]
    assert {line["correlation_id"] for line in about} == {"caller-7"}
    # A line leads to its span.
    assert {line["span_id"] for line in failed} <= {span.span_id for span in tried}
    assert len(failed) == 2
    assert sum(line["event"] == "booked" for line in about) == (4 if with_work else 0)
    assert b"ashes" not in collector.received
    assert b"verysecret" not in collector.received


def test_a_request_that_fails_says_why(
    traced: dict[str, str], collector: TraceCollector, tmp_path: Path
) -> None:
    armed = {**traced, "SLIMTRACK_FAULT": "place.before_commit:raise"}
    with serve(armed, tmp_path, workers=1) as server:
        body = b'{"description": "x"}'
        head = (
            f"POST /api/orders?key=verysecret HTTP/1.1\r\nHost: localhost\r\n{SAMPLED}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        assert server.send(head.encode(), body).status == 500

    [span] = in_trace(collector.spans)
    assert span.failed
    assert [name for name, _ in span.events] == ["exception"]
    assert span.attributes["error.type"] == "FaultError"
    assert b"verysecret" not in collector.received
    [line] = [
        json.loads(line)
        for line in (tmp_path / "gunicorn.log").read_text().splitlines()
        if "request.failed" in line
    ]
    assert (line["trace_id"], line["span_id"]) == (TRACE, span.span_id)
    assert line["correlation_id"] == TRACE


def test_of_the_requests_without_a_trace_some_a_second_are_recorded(
    traced: dict[str, str],
    connection: psycopg.Connection[Any],
    collector: TraceCollector,
    tmp_path: Path,
) -> None:
    traced["SLIMTRACK_TRACES_PER_SECOND"] = "3"
    with serve(traced, tmp_path, workers=1) as server:
        began = time.monotonic()
        for _ in range(40):
            place(server)
        seconds = time.monotonic() - began

    recorded = {f"00-{span.trace_id}-{span.span_id}-01" for span in collector.spans}
    rows = connection.execute("SELECT traceparent FROM outbox").fetchall()
    assert {row for (row,) in rows if row} == recorded
    assert 3 <= len(recorded) <= 3 + 3 * seconds
    assert len(rows) == 40 > len(recorded)


def test_the_orders_of_a_large_request_are_not_recorded(
    traced: dict[str, str],
    connection: psycopg.Connection[Any],
    collector: TraceCollector,
    tmp_path: Path,
) -> None:
    traced["SLIMTRACK_TRACES_PER_SECOND"] = "1000"
    with serve(traced, tmp_path, workers=1) as server:
        for size in (10, 11):
            answer = post(server, "/api/orders/bulk", [{"description": PRIVATE}] * size)
            assert answer.status == 200, answer.body

    assert [span.attributes["http.route"] for span in collector.spans] == ["/api/orders/bulk"] * 2
    counted = connection.execute("SELECT count(traceparent), count(*) FROM outbox").fetchone()
    assert counted == (10, 21)


#: A process of each kind as far as it matters.
QUIET = """
import sys
from slimtrack import wsgi, worker, publisher
wsgi.create_app()
worker.setup()
print(any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""


def run(script: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_collector_nothing_is_sent_loaded_or_written(
    traced: dict[str, str],
    connection: psycopg.Connection[Any],
    collector: TraceCollector,
    tmp_path: Path,
) -> None:
    assert run(QUIET, traced).stdout == "True\n"
    quiet = {**traced, "OTEL_EXPORTER_OTLP_ENDPOINT": "", "SLIMTRACK_TRACES_PER_SECOND": "1000"}
    assert run(QUIET, quiet).stdout == "False\n"
    with serve(quiet, tmp_path, workers=1) as server:
        place(server, SAMPLED)
    assert count(connection, "outbox WHERE traceparent IS NULL") == 1
    with running(quiet):
        wait_until(lambda: delivered(connection) == 1)

    assert not collector.spans


#: As where the extra was not installed.
BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from slimtrack.settings import Settings
Settings.from_environment()
"""


def test_where_the_extra_is_missing_the_error_names_it(traced: dict[str, str]) -> None:
    done = run(BARE, traced)

    assert done.returncode != 0
    assert "with its extra `traces`" in done.stderr
    assert run(BARE, {**traced, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}).returncode == 0


def test_a_collector_that_does_not_answer_costs_nothing(
    traced: dict[str, str], connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        port = deaf.getsockname()[1]
        traced |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "SLIMTRACK_TRACES_PER_SECOND": "1000",
        }
        with running(traced) as lines:
            with serve(traced, tmp_path, workers=1) as server:
                began = time.monotonic()
                for _ in range(20):
                    place(server)
                assert time.monotonic() - began < 5
                wait_until(lambda: delivered(connection) == 20, timeout=20)
                wait_until(lambda: any("spans.dropped" in line for line in lines), timeout=20)
                stopping = time.monotonic()
            assert time.monotonic() - stopping < 10
            stopping = time.monotonic()
        # The publisher and four groups of workers, one after the other.
        assert time.monotonic() - stopping < 40
        deaf.settimeout(1)
        deaf.accept()[0].close()  # it was asked

    # One line a minute of each process.
    said = [*lines, *(tmp_path / "gunicorn.log").read_text().splitlines()]
    assert 1 <= sum("spans.dropped" in line for line in said) <= 6
    assert not any("opentelemetry" in line or "Traceback" in line for line in said)
