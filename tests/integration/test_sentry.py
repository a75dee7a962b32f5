"""What is reported to Sentry, and what is not; a server of our own takes Sentry's place."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import dramatiq
import psycopg
import pytest
from api_server import serve
from observing import count, wait_until
from pika.adapters.blocking_connection import BlockingChannel
from proxy import Proxy
from sentry_server import SentryServer

from slimtrack import __version__
from slimtrack.domain.order import NewOrder, new_order_id
from slimtrack.stack.processes import plan_publisher, plan_workers
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.tracking import Tracking

QUEUE = "orders.processing"
#: What an order holds, and nobody but its tenant may see.
PRIVATE = "Grandmother's ashes"
#: Work that fails as the order's reference says, and quotes the order when it does.
FAILING = """
from slimtrack.domain.retry import PermanentError

def book(assignment):
    order = assignment.order
    token = "Bearer stk_1_verysecret at https://shop:verysecret@carrier.example/?key=verysecret"
    if order.reference and order.reference.startswith("fails"):
        raise ArithmeticError(f"{token}: Can't book '{order.description}' as {order.reference!r}.")
    if order.reference == "hopeless":
        raise PermanentError("No such street.\\nDETAIL: " + order.description)
"""


@pytest.fixture
def sentry() -> Iterator[SentryServer]:
    with SentryServer() as server:
        yield server


@pytest.fixture
def reporting(environment: dict[str, str], sentry: SentryServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that reports, and has work that may fail."""
    (tmp_path / "shop.py").write_text(FAILING)
    return {
        **environment,
        "SENTRY_DSN": sentry.dsn,
        "SLIMTRACK_ENVIRONMENT": "rehearsal",
        "SLIMTRACK_STAGE_WORK": "processing=shop:book",
        "PYTHONPATH": str(tmp_path),
        "SLIMTRACK_MAX_RETRIES": "2",
        "SLIMTRACK_MIN_BACKOFF": "0.1",
    }


@contextmanager
def running(*services: Service) -> Iterator[Supervisor]:
    supervisor = Supervisor(on_line=lambda *_: None)
    try:
        supervisor.start(services)
        yield supervisor
    finally:
        supervisor.stop()


def publisher_and_workers(environment: Mapping[str, str]) -> Sequence[Service]:
    return [plan_publisher(environment), *plan_workers(environment)]


def place(tracking: Tracking, *references: str) -> list[UUID]:
    return [
        tracking.place(
            NewOrder(
                id=new_order_id(),
                description=PRIVATE,
                reference=reference,
                correlation_id=f"c-{reference}",
            )
        ).id
        for reference in references
    ]


def error_of(event: dict[str, Any]) -> tuple[str, str]:
    raised = event["exception"]["values"][-1]
    return raised["type"], raised["value"]


def test_an_order_that_is_given_up_is_reported_once_and_its_retries_are_not(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
) -> None:
    orders = place(tracking, "fails-1", "fails-2", "hopeless", "good")
    with running(*publisher_and_workers(reporting)):
        wait_until(lambda: count(connection, "dead_letters") == 3)
        wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 1)
        # While they run: a report does not wait for the end.
        wait_until(lambda: len(sentry.events) >= 3, timeout=20)

    letters = connection.execute(
        "SELECT order_id::text, id::text, attempts::text, fingerprint FROM dead_letters"
    ).fetchall()
    tags = [event["tags"] for event in sentry.events]
    assert sorted(
        (tag["order_id"], tag["dead_letter"], tag["attempt"], *event["fingerprint"])
        for tag, event in zip(tags, sentry.events, strict=True)
    ) == sorted(letters)
    assert {tag["order_id"]: (tag["attempt"], tag["correlation_id"]) for tag in tags} == {
        str(orders[0]): ("3", "c-fails-1"),
        str(orders[1]): ("3", "c-fails-2"),
        str(orders[2]): ("1", "c-hopeless"),
    }
    assert {tag["stage"] for tag in tags} == {"processing"}
    fingerprints = {error_of(event): tuple(event["fingerprint"]) for event in sentry.events}
    assert len(fingerprints) == len(set(fingerprints.values())) == 2
    assert {(event["environment"], event["release"]) for event in sentry.events} == {
        ("rehearsal", f"slimtrack@{__version__}")
    }


def test_a_report_has_nothing_of_an_order_but_its_id_and_no_secret(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
) -> None:
    place(tracking, "fails", "hopeless")
    with running(*publisher_and_workers(reporting)):
        wait_until(lambda: count(connection, "dead_letters") == 2)

    assert sorted(map(error_of, sentry.events)) == [
        ("ArithmeticError", "? at https://?carrier.example/? Can't book ?."),
        ("PermanentError", "No such street."),
    ]
    frames = sentry.events[0]["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "book"
    assert not any("vars" in frame for frame in frames)
    for private in ("ashes", "verysecret", "hush", "postgresql://"):
        assert private.encode() not in sentry.received, private
    assert {kind for kind, _ in sentry.items} == {"event"}


def test_a_request_that_fails_for_our_fault_is_reported_without_the_request(
    reporting: dict[str, str], sentry: SentryServer, tmp_path: Path
) -> None:
    body = json.dumps({"description": PRIVATE, "reference": "PO-77"}).encode()
    head = (
        "POST /api/orders?shop=verysecret HTTP/1.1",
        "Host: localhost",
        "Authorization: Bearer stk_1_verysecret",
        "Cookie: session=verysecret",
        "Content-Type: application/json",
        "X-Request-ID: request-7",
        f"Content-Length: {len(body)}",
    )
    armed = {**reporting, "SLIMTRACK_FAULT": "place.before_commit:raise"}
    with serve(armed, tmp_path, workers=1) as server:
        failed = server.send("\r\n".join((*head, "", "")).encode(), body)
        placed = server.send("\r\n".join((*head, "", "")).encode(), body)
        refused = server.send("\r\n".join((*head, "", "")).encode(), b"x" * len(body))
        assert (failed.status, placed.status, refused.status) == (500, 201, 400)

    [event] = sentry.events
    assert error_of(event)[0] == "FaultError"
    assert event["tags"] == {
        "method": "POST",
        "route": "/api/orders",
        "correlation_id": "request-7",
    }
    for private in (b"verysecret", b"Authorization", b"Cookie", b"ashes", b"PO-77"):
        assert private not in sentry.received


def test_a_database_that_is_away_is_not_reported(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    database_url: str,
    sentry: SentryServer,
) -> None:
    with Proxy(database_url) as proxy:
        environment = {**reporting, "DATABASE_URL": proxy.url}
        with (
            running(*publisher_and_workers(environment)),
            serve(environment, Path(reporting["PYTHONPATH"]), workers=1) as server,
        ):
            place(tracking, "before")
            wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 1)

            proxy.refuse()
            place(tracking, "during")
            get = b"GET /api/orders HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert server.send(get).status == 503
            # Longer than the pauses of all jobs that look every 5 s.
            time.sleep(8)
            proxy.accept()

            wait_until(lambda: count(connection, "orders WHERE status = 'delivered'") == 2)
            assert not sentry.events
            # What else happens meanwhile is.
            place(tracking, "fails")
            wait_until(lambda: len(sentry.events) == 1)
    assert error_of(sentry.events[0])[0] == "ArithmeticError"


def test_the_end_of_the_publishing_thread_is_reported_once(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
    tmp_path: Path,
) -> None:
    armed = {
        **reporting,
        "SLIMTRACK_FAULT": "publisher.after_claim:raise",
        "SLIMTRACK_FAULT_DIR": str(tmp_path),
    }
    place(tracking, "good")
    with running(plan_publisher(armed), *plan_workers(reporting)) as supervisor:
        wait_until(lambda: sentry.events)

        def is_delivered() -> bool:
            supervisor.poll()  # which starts the publisher again
            return count(connection, "orders WHERE status = 'delivered'") == 1

        wait_until(is_delivered)

    [event] = sentry.events
    assert error_of(event)[0] == "FaultError"
    assert event["tags"] == {"thread": "publisher"}


def test_a_failure_that_cannot_be_stored_is_reported(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
) -> None:
    place(tracking, "fails")
    armed = {**reporting, "SLIMTRACK_FAULT": "retry.before_rearm:raise"}
    with running(*publisher_and_workers(armed)):
        wait_until(lambda: sentry.events)

    [event] = sentry.events
    assert error_of(event)[0] == "FaultError"
    assert event["tags"] == {"queue": QUEUE}
    assert count(connection, "outbox") == 1


def test_a_job_that_fails_is_reported(
    reporting: dict[str, str],
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
    tmp_path: Path,
    channel: BlockingChannel,
) -> None:
    armed = {
        **reporting,
        "SLIMTRACK_FAULT": "drain.after_store:raise",
        "SLIMTRACK_FAULT_DIR": str(tmp_path),
    }
    with running(plan_publisher(armed)):
        channel.queue_declare(f"{QUEUE}.XQ", durable=True)
        channel.basic_publish("", f"{QUEUE}.XQ", PRIVATE.encode())
        # Stored, then the job fails; drained a second time, when it is kept already.
        wait_until(lambda: len(sentry.events) == 2)
        wait_until(
            lambda: not channel.queue_declare(f"{QUEUE}.XQ", passive=True).method.message_count
        )

    assert count(connection, "dead_letters") == 1
    assert [error_of(event)[0] for event in sentry.events] == [
        "MessageUnreadableError",
        "FaultError",
    ]
    assert sentry.events[0]["fingerprint"] == ["unreadable"]
    assert sentry.events[0]["tags"] == {"queue": QUEUE}
    assert b"ashes" not in sentry.received


def test_each_row_that_the_broker_has_put_aside_is_reported(
    reporting: dict[str, str],
    tracking: Tracking,
    connection: psycopg.Connection[Any],
    sentry: SentryServer,
    channel: BlockingChannel,
) -> None:
    orders = place(tracking, "one", "another")
    with running(plan_publisher(reporting)):
        wait_until(lambda: count(connection, "outbox WHERE published_at IS NOT NULL") == 2)
        rows = [row for (row,) in connection.execute("SELECT id FROM outbox").fetchall()]
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=QUEUE, actor_name="nobody", args=(rows,), kwargs={}, options={}
        )
        channel.queue_declare(f"{QUEUE}.XQ", durable=True)
        channel.basic_publish("", f"{QUEUE}.XQ", message.encode())
        wait_until(lambda: len(sentry.events) >= 2)

    assert count(connection, "dead_letters") == 2
    assert {event["tags"]["order_id"] for event in sentry.events} == set(map(str, orders))
    assert [event["fingerprint"] for event in sentry.events] == [["rejected:nobody"]] * 2


def run(script: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


#: A process of each kind as far as it matters, and an error in it.
QUIET = """
import sys
from slimtrack import wsgi, worker
from slimtrack.telemetry import errors
wsgi.create_app()
worker.setup()
errors.report(ArithmeticError("boom"))
print("sentry_sdk" in sys.modules)
"""


def test_without_a_dsn_nothing_is_sent_and_the_sdk_is_not_even_loaded(
    reporting: dict[str, str], sentry: SentryServer
) -> None:
    assert run(QUIET, {**reporting, "SENTRY_DSN": ""}) == "False\n"
    assert not sentry.items

    assert run(QUIET, reporting) == "True\n"
    assert [error_of(event)[0] for event in sentry.events] == ["ArithmeticError"]


#: A process that ends with an error, after a thread of it did.
UNCAUGHT = """
import sys, threading
from pkgutil import resolve_name
from slimtrack.bootstrap import report_errors
from slimtrack.settings import Settings

def fail():
    raise resolve_name(sys.argv[1])("gone")

report_errors(Settings.from_environment())
thread = threading.Thread(target=fail, name="helper")
thread.start()
thread.join()
fail()
"""


@pytest.mark.parametrize(
    ("error", "reports"),
    [
        ("builtins:ArithmeticError", [{"thread": "helper"}, {}]),
        ("builtins:KeyboardInterrupt", []),
        ("psycopg:OperationalError", []),
        ("psycopg_pool:PoolTimeout", []),
        ("slimtrack.domain.errors:UnavailableError", []),
    ],
)
def test_what_nobody_catches_is_reported_unless_it_heals_by_itself(
    reporting: dict[str, str], sentry: SentryServer, error: str, reports: list[dict[str, str]]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT, error],
        env=reporting,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    # Whoever reads the log finds it there in any case.
    assert done.stderr.count(f"{error.rpartition(':')[2]}: gone") == 2 or "Keyboard" in error
    assert [event.get("tags", {}) for event in sentry.events] == reports
    assert all(error_of(event) == ("ArithmeticError", "gone") for event in sentry.events)


HASTY = """
import time
from slimtrack.bootstrap import report_errors
from slimtrack.settings import Settings
from slimtrack.telemetry import errors
report_errors(Settings.from_environment())
began = time.monotonic()
for _ in range(1000):
    errors.report(ArithmeticError("boom"))
print(time.monotonic() - began)
"""


def test_a_sentry_that_does_not_answer_holds_up_nobody(reporting: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        began = time.monotonic()
        printed = run(HASTY, {**reporting, "SENTRY_DSN": f"http://key@127.0.0.1:{port}/1"})
        whole = time.monotonic() - began
        deaf.settimeout(1)
        deaf.accept()[0].close()  # it was asked

    assert float(printed) < 10
    assert whole - float(printed) < 20
