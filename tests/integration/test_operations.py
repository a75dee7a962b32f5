"""What those who run the system see and mend: resources, queues, logs, simulated orders."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import falcon
import psycopg
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.broker.topology import queue_arguments
from slimtrack.domain.access import Scope
from slimtrack.local.filtering import LineFilter
from slimtrack.local.log import read_records
from slimtrack.local.records import place_of
from slimtrack.local.state import Phase, ProcessState, StackState
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.sql.processes import note_process
from slimtrack.stack.directory import StateDirectory
from slimtrack.stack.logfile import LogFile
from slimtrack.stack.state import hold_lock, write_state
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

EVER, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
ORDER = "0193a1b2-0000-7000-8000-000000000001"


@pytest.fixture
def access(pool: ConnectionPool) -> Access:
    return Access(pool)


@pytest.fixture
def make_app(
    tracking: Tracking, settings: Settings
) -> Iterator[Callable[..., falcon.App[Any, Any]]]:
    # With the rights of the process that serves the pages.
    with open_pool(
        settings.database_url,
        application_name="api",
        size=2,
        options={"role": "slimtrack_api"},
        timeout=5,
    ) as pool:

        def make(**changed: Any) -> falcon.App[Any, Any]:
            return dashboard_app(settings, pool, tracking, **{"simulation": True, **changed})

        yield make


@pytest.fixture
def make_visitor(
    make_app: Callable[..., falcon.App[Any, Any]], access: Access
) -> Callable[..., Visitor]:
    def make(scope: Scope = Scope.OPERATOR, **changed: Any) -> Visitor:
        visitor = Visitor(make_app(**changed))
        visitor.sign_in(access.create_key(tenant="default", name="test", scopes=[scope]))
        return visitor

    return make


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIMTRACK_STATE_DIR", str(tmp_path))
    return tmp_path


def recorded(connection: psycopg.Connection) -> list[Any]:
    statement = "SELECT action, reason, selection, affected FROM operator_actions ORDER BY id"
    return connection.execute(statement).fetchall()


def write_log(directory: Path, *lines: tuple[str, str]) -> None:
    with closing(LogFile(directory)) as log:
        for name, line in lines:
            log.write(name, line)


def record(level: str, event: str, *, at: datetime, **fields: str) -> str:
    more = "".join(f', "{name}": "{value}"' for name, value in fields.items())
    return f'{{"event": "{event}", "level": "{level}", "timestamp": "{at.isoformat()}"{more}}}'


def around(seconds: float) -> datetime:
    """A time so many seconds after a new year."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@contextmanager
def stack_of(directory: Path, *processes: ProcessState) -> Iterator[None]:
    state = StateDirectory(directory)
    with hold_lock(state):
        write_state(
            state,
            StackState(
                pid=os.getpid(),
                doing="",
                api_url="http://127.0.0.1:1",
                api_key="",
                environment={},
                processes=list(processes),
            ),
        )
        yield


def test_the_log_is_read_from_its_end_a_page_at_a_time(tmp_path: Path) -> None:
    write_log(tmp_path, *(("api", f"line {number}") for number in range(250)))
    (tmp_path / "stack.log").rename(tmp_path / "stack.log.1")
    write_log(tmp_path, *(("api", f"line {number}") for number in range(250, 300)))
    with (tmp_path / "stack.log").open("a", encoding="utf-8") as file:
        file.write("api | is being wri")

    seen = []
    before = None
    while True:
        found = read_records(tmp_path, LineFilter(), before=before, limit=100)
        seen += [each.event for each in found.records]
        if found.older is None:
            break
        before = place_of(str(found.older))

    assert seen == [f"line {number}" for number in reversed(range(300))]
    near = read_records(tmp_path, LineFilter(text="line 1"), limit=9, most_bytes=1000).records
    assert near == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LineFilter(), ["now", "FATAL:  no", "order.placed", "started"]),
        (LineFilter(level="error"), ["now", "FATAL:  no"]),
        (LineFilter(process="api"), ["now", "order.placed"]),
        (LineFilter(order=ORDER), ["order.placed"]),
        (LineFilter(correlation="c-17"), ["order.placed"]),
        (LineFilter(text="ORDER.plac"), ["order.placed"]),
        (LineFilter(since=datetime.now(UTC) - timedelta(hours=1)), ["now"]),
        (LineFilter(until=datetime(2026, 1, 1, 12, 30, tzinfo=UTC)), ["order.placed", "started"]),
    ],
)
def test_the_log_is_filtered(tmp_path: Path, wanted: LineFilter, expected: list[str]) -> None:
    old = datetime(2026, 1, 1, 12, tzinfo=UTC)
    placed = record("info", "order.placed", at=old, order_id=ORDER, correlation_id="c-17")
    write_log(
        tmp_path,
        ("worker", record("info", "started", at=old)),
        ("api", placed),
        ("postgresql", "FATAL:  no"),
        ("api", record("error", "now", at=datetime.now(UTC))),
    )
    assert [each.event for each in read_records(tmp_path, wanted, limit=9).records] == expected


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (LineFilter(text="LINE 7,"), [7]),
        (LineFilter(order="o-8999"), [8_999]),
        (LineFilter(correlation="o-0"), [0]),
        (LineFilter(process="redis"), [4_000]),
        (LineFilter(level="warning"), [6_000, 4_000, 2_000]),
        (LineFilter(level="critical"), [6_000]),
        (LineFilter(text="line 4", level="error"), []),
        (LineFilter(since=around(8_990)), range(8_999, 8_989, -1)),
        (LineFilter(until=around(9)), range(9, -1, -1)),
        (LineFilter(since=around(5_000), until=around(5_009)), range(5_009, 4_999, -1)),
        (LineFilter(since=EVER, until=NEVER), range(8_999, -1, -1)),
    ],
)
def test_what_is_sought_in_a_long_log_is_found(
    tmp_path: Path, wanted: LineFilter, numbers: Iterable[int]
) -> None:
    """The log is several times as long as what is read at once."""
    lines = [
        ("api", record("info", f"line {n},", at=around(n), order=f"o-{n}", more=100 * "x"))
        for n in range(9_000)
    ]
    lines[2_000] = ("rabbitmq", f"{around(2_000)} [error] line 2000,")
    lines[4_000] = ("redis", f"{around(4_000)} # line 4000,")
    lines[6_000] = ("postgresql", f"{around(6_000)} FATAL:  line 6000,")
    write_log(tmp_path, *lines)
    found = read_records(tmp_path, wanted, limit=10_000).records
    assert [int(re.findall(r"line (\d+)", each.event)[0]) for each in found] == list(numbers)


def test_ten_megabytes_of_log_are_searched_at_once(tmp_path: Path) -> None:
    line = record("info", "order.placed", at=datetime.now(UTC), order_id=ORDER)
    text = f"api | {line}\n".encode()
    (tmp_path / "stack.log").write_bytes(text * (10_000_000 // len(text)))
    # Of the processor: other processes may take their time.
    started = time.process_time()
    assert read_records(tmp_path, LineFilter(text="nothing"), limit=100).records == []
    assert time.process_time() - started < 0.5  # 0.05 on a quiet machine


def test_the_page_of_the_log_shows_lines_and_links_to_what_they_are_about(
    make_visitor: Callable[..., Visitor], directory: Path
) -> None:
    at = datetime.now(UTC)
    write_log(
        directory,
        ("api", record("info", "order.placed", at=at, order_id=ORDER)),
        ("api", record("error", "<b>bad</b>", at=at)),
    )
    visitor = make_visitor(Scope.ORDERS_READ)

    page = visitor.get("/dashboard/logs?level=error").text
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "order.placed" not in page
    assert f'href="/dashboard/orders/{ORDER}"' in visitor.get("/dashboard/logs").text


def test_a_time_that_is_none_in_utc_is_overlooked(
    make_visitor: Callable[..., Visitor], directory: Path
) -> None:
    write_log(directory, ("api", record("info", "request.served", at=datetime.now(UTC))))
    visitor = make_visitor()
    for wanted in ("since=0001-01-01T00:00:00%2B14:00", "until=9999-12-31T23:59:59-14:00"):
        assert "request.served" in visitor.get(f"/dashboard/logs?{wanted}").text
        streamed = visitor.get(f"/dashboard/live/logs?{wanted}", Accept="text/event-stream")
        assert "event: away" not in streamed.text


def test_without_a_stack_the_page_of_the_log_says_where_logs_are(
    make_visitor: Callable[..., Visitor],
) -> None:
    assert "docker compose logs" in make_visitor().get("/dashboard/logs").text


def test_without_a_stack_servers_and_processes_are_shown_by_what_they_say(
    make_visitor: Callable[..., Visitor], connection: psycopg.Connection
) -> None:
    note_process(
        connection,
        UUID(ORDER),
        kind="worker",
        host="box-1",
        pid=7,
        queues=["orders.delivered"],
        version="9.9.9",
        memory_bytes=5_000_000,
        age=1.0,
    )
    visitor = make_visitor(Scope.ORDERS_READ)

    page = visitor.get("/dashboard/resources").text

    for text in ("postgresql", "rabbitmq", "redis", "9.9.9", "orders.delivered", "5 MB"):
        assert text in page
    assert page.count('data-state="ready"') == 4
    assert visitor.get("/dashboard/resources/nothing").status_code == 404


def test_a_password_is_shown_to_an_operator_who_asks_and_that_is_recorded(
    make_visitor: Callable[..., Visitor], settings: Settings, connection: psycopg.Connection
) -> None:
    secret = settings.amqp_url.partition("@")[0]
    operator, reader = make_visitor(), make_visitor(Scope.ORDERS_READ)
    path = "/dashboard/resources/rabbitmq"
    assert secret not in operator.get(path).text

    assert reader.get(path).status_code == 200
    assert reader.post(f"{path}/connection").status_code == 403
    assert recorded(connection) == []
    shown = operator.post(f"{path}/connection")

    assert secret in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert [each[0] for each in recorded(connection)] == ["reveal"]
    assert operator.post("/dashboard/resources/nothing/connection").status_code == 404


def test_the_page_of_queues_shows_what_waits_and_what_is_late(
    make_visitor: Callable[..., Visitor], caller: Any, connection: psycopg.Connection
) -> None:
    order = caller.place(flow="simulated")
    connection.execute(
        "UPDATE outbox SET created_at = now() - interval '1 day', attempts = 3,"
        " available_at = now() - interval '5 s' WHERE stage = 'processing'"
    )

    page = make_visitor(Scope.ORDERS_READ).get("/dashboard/queues").text

    assert f'href="/dashboard/orders/{order["id"]}"' in page
    [row] = re.findall('<tr data-stage="processing">.*?</tr>', page, re.DOTALL)
    assert '<td data-label="Due" class="right">1</td>' in row
    assert '<td data-label="Retrying" class="right">1</td>' in row
    [other] = re.findall('<tr data-stage="in_transit">.*?</tr>', page, re.DOTALL)
    assert '<td data-label="Due" class="right zero">0</td>' in other


def test_an_operator_makes_lost_rows_due_again_and_that_is_recorded(
    make_visitor: Callable[..., Visitor], channel: BlockingChannel, connection: psycopg.Connection
) -> None:
    for queue in BY_QUEUE:
        channel.queue_declare(queue, durable=True, arguments=queue_arguments(queue))
    for seconds in (10, 100, 100):
        connection.execute(
            "INSERT INTO outbox (stage, order_id, from_sequence, publications, published_at)"
            " VALUES ('processing', gen_random_uuid(), 1, 1, now() - make_interval(secs => %s))",
            (seconds,),
        )
    path = "/dashboard/queues/reconcile"
    reader, operator = make_visitor(Scope.ORDERS_READ), make_visitor()
    assert '<td class="right">2</td>' in operator.get(path).text
    assert reader.get(path).status_code == 200
    assert reader.post(path, reason="I may not").status_code == 403
    assert operator.post(path, reason=" ").status_code == 422
    assert operator.send(path, {"reason": "without a token"}).status_code == 403

    done = operator.post(path, reason="the broker was wiped")

    assert done.headers["location"] == "/dashboard/queues?rearmed=2"
    assert recorded(connection) == [("reconcile", "the broker was wiped", {}, 2)]
    statement = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    assert connection.execute(statement).fetchone() == (2,)


def test_an_operator_places_simulated_orders(
    make_visitor: Callable[..., Visitor], connection: psycopg.Connection
) -> None:
    path = "/dashboard/simulate"
    reader, operator = make_visitor(Scope.ORDERS_READ), make_visitor()
    assert reader.get(path).status_code == 200
    assert reader.post(path, count="3").status_code == 403
    operator.get(path)
    for wrong in ("0", "1001", "-1", "many", ""):
        assert operator.post(path, count=wrong).status_code == 422

    placed = operator.post(path, count="3", outcome="fails_once")

    assert "3 orders are placed" in placed.text
    statement = "SELECT count(*), min(split_part(reference, '/', 1)) FROM orders"
    assert connection.execute(statement).fetchone() == (3, "test:fails_once")
    assert [each[0] for each in recorded(connection)] == ["simulate"]


def test_nothing_is_simulated_unless_it_is_switched_on(
    make_visitor: Callable[..., Visitor],
) -> None:
    visitor = make_visitor(simulation=False)
    assert "/dashboard/simulate" not in visitor.get("/dashboard/queues").text
    assert visitor.get("/dashboard/simulate").status_code == 404
    assert visitor.post("/dashboard/simulate/stop", name="api").status_code == 404


def test_an_operator_kills_a_process_of_the_stack_and_no_other(
    make_visitor: Callable[..., Visitor], directory: Path, connection: psycopg.Connection
) -> None:
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as victim:
        state = ProcessState(
            name="publisher",
            phase=Phase.READY,
            pid=victim.pid,
            restarts=4,
            since=time.time(),
            address="",
        )
        with stack_of(directory, state):
            reader, operator = make_visitor(Scope.ORDERS_READ), make_visitor()
            shown = operator.get("/dashboard/resources/publisher").text
            assert f'<dd id="pid">{victim.pid}</dd>' in shown
            reader.get("/dashboard/simulate")
            assert reader.post("/dashboard/simulate/stop", name="publisher").status_code == 403
            for name in ("", "1", str(victim.pid), "rabbitmq"):
                assert operator.post("/dashboard/simulate/stop", name=name).status_code == 404
            assert victim.poll() is None

            killed = operator.post("/dashboard/simulate/stop", name="publisher")

            assert killed.headers["location"] == "/dashboard/resources/publisher"
            assert victim.wait(5) == -signal.SIGKILL
    assert [each[0] for each in recorded(connection)] == ["stop"]
