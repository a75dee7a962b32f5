"""The page for those who wait for a parcel: what it tells, and what it keeps to itself."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import randbelow
from typing import Any

import falcon
import falcon.testing
import psycopg
import pytest
from api_server import serve
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.database import CALLER_SESSION
from slimtrack.bootstrap.tracking_page import create_tracking_page
from slimtrack.domain.following import Expectation
from slimtrack.domain.order import JOURNEY, Flow, NewOrder, Status, new_order_id
from slimtrack.domain.tracking_code import format_code, parse_code
from slimtrack.http.app import create_app
from slimtrack.http.auth import Open
from slimtrack.http.pages.languages import words_of
from slimtrack.http.tracking_page import page
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql import statements
from slimtrack.sql.pool import open_pool
from slimtrack.sql.roles import Role
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.following import Following
from slimtrack.use_cases.tracking import Tracking

Connection = psycopg.Connection[Any]

DELAYS = dict(zip(JOURNEY, (100.0, 200.0, 300.0, 400.0), strict=True))
#: Asks a page, as a browser does.
Ask = Callable[..., falcon.testing.Result]


@pytest.fixture
def ask(settings: Settings, pool: ConnectionPool, tracking: Tracking) -> Ask:
    """Asks from an address of its own, so that no test uses up what another may."""
    app = create_app(
        tracking=tracking,
        cache=HistoryCache(settings.redis_url),
        authentication=Open(Access(pool).anybody),
        dependencies={},
        required=(),
        add_pages=[create_tracking_page(settings, pool)],
    )
    client = falcon.testing.TestClient(app, headers={"Host": "localhost"})
    address = f"127.{'.'.join(str(randbelow(254) + 1) for _ in range(3))}"

    def get(path: str, **headers: str) -> falcon.testing.Result:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.simulate_get(
            path, headers={"Accept": "text/html", **given}, remote_addr=address
        )

    return get


@pytest.fixture
def following(pool: ConnectionPool) -> Following:
    return Following(pool, schedule=Schedule(DELAYS))


def place(tracking: Tracking, **fields: Any) -> tuple[NewOrder, str]:
    new = NewOrder(id=new_order_id(), **{"description": "A parcel", **fields})
    return new, tracking.place(new).tracking_code


def number_of(code: str) -> int:
    number = parse_code(code)
    assert number is not None
    return number


def move(
    connection: Connection,
    new: NewOrder,
    status: Status,
    *,
    at: datetime | None = None,
    **columns: Any,
) -> None:
    """Bring an order to a status, as if somebody had reported it."""
    event = {
        "order_id": new.id,
        "status": status,
        "message": "Moved.",
        "occurred_at": at or datetime.now(UTC),
        **columns,
    }
    [[version]] = connection.execute(
        "UPDATE orders SET status = %s, version = version + 1, status_sequence = version + 1"
        " WHERE id = %s RETURNING version",
        (status, new.id),
    ).fetchall()
    connection.execute(
        "UPDATE order_statuses SET status = %s, updated_at = clock_timestamp() WHERE order_id = %s",
        (status, new.id),
    )
    event |= {"sequence": version, "idempotency_key": f"{new.id}:{version - 1}:{status}"}
    names = ", ".join(event)
    values = ", ".join(f"%({name})s" for name in event)
    connection.execute(
        f"INSERT INTO order_events ({names}) VALUES ({values})",  # noqa: S608 - names of columns
        event,
    )


def deliver(connection: Connection, tracking: Tracking, *, took: float, flow: Flow) -> None:
    """Have an order delivered so many seconds after it was on its way."""
    new, _ = place(tracking, flow=flow)
    began = datetime.now(UTC) - timedelta(days=1)
    move(connection, new, Status.IN_TRANSIT, at=began)
    move(connection, new, Status.DELIVERED, at=began + timedelta(seconds=took))


def expectation(following: Following, code: str) -> Expectation | None:
    return following.follow(number_of(code))[1]


def test_nothing_is_told_that_anybody_has_written(
    ask: Ask, tracking: Tracking, connection: Connection
) -> None:
    new, code = place(
        tracking,
        description="MARK-description",
        reference="MARK-reference",
        metadata={"MARK-key": "MARK-value"},
        correlation_id="MARK-correlation",
    )
    move(
        connection,
        new,
        Status.PROCESSING,
        message="MARK-message",
        reason="MARK-reason",
        location="MARK-location",
        source="MARK-source",
        correlation_id="MARK-correlation",
    )
    for language in ("en", "pt-BR"):
        answer = ask(f"/t/{code}", Accept_Language=language)
        assert answer.status_code == 200
        assert code in answer.text
        told = answer.text + str(answer.headers)
        assert "MARK" not in told
        assert str(new.id) not in told
    assert not answer.cookies
    assert answer.headers["x-robots-tag"] == "noindex"
    assert '<meta name="robots" content="noindex">' in answer.text
    assert "'unsafe" not in answer.headers["content-security-policy"]


def test_a_code_is_read_as_people_write_it(ask: Ask, tracking: Tracking) -> None:
    _, code = place(tracking)
    plain = code.removeprefix("SL-").replace("-", "").lower()
    assert code in ask(f"/t/{plain}").text
    assert ask(f"/t?code={plain}").headers["location"] == f"/t/{code}"
    assert 'name="code"' in ask("/t").text


def test_a_wrong_code_and_an_unknown_one_are_answered_alike(
    ask: Ask, tracking: Tracking, pool: ConnectionPool
) -> None:
    _, code = place(tracking)
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    answers = [ask(f"/t/{each}") for each in (format_code(1), wrong, "x", "%00", "SL-" * 50)]
    answers.append(ask("/t?code=nothing"))
    assert {each.status_code for each in answers} == {404}
    assert len({each.text for each in answers}) == 1
    assert "no parcel with this code" in answers[0].text
    own = {"x-request-id"}
    kept = [{k: v for k, v in each.headers.items() if k not in own} for each in answers]
    assert all(each == kept[0] for each in kept)
    # A wrong letter is seen without the database.
    pool.close()
    assert ask(f"/t/{wrong}").status_code == 404
    away = ask(f"/t/{code}")
    assert away.status_code == 503
    assert "cannot look now" in away.text


def test_a_page_is_sent_once_for_each_version_and_language(
    ask: Ask, tracking: Tracking, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, code = place(tracking, flow=Flow.REPORTED)
    first = ask(f"/t/{code}")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    same = ask(f"/t/{code}", If_None_Match=tag)
    assert (same.status_code, same.text) == (304, "")
    assert ask(f"/t/{code}", If_None_Match=tag, Accept_Language="pt").status_code == 200
    move(connection, new, Status.PROCESSING)
    changed = ask(f"/t/{code}", If_None_Match=tag)
    assert changed.status_code == 200
    assert "is being prepared" in changed.text
    # A newer version of SlimTrack may say the same in other words.
    monkeypatch.setitem(words_of(page.PACKAGE)["track.said_processing"], "en", "Being wrapped.")
    reworded = ask(f"/t/{code}", If_None_Match=changed.headers["etag"])
    assert (reworded.status_code, "Being wrapped." in reworded.text) == (200, True)


def test_times_come_from_the_tenants_own_deliveries(
    following: Following, tracking: Tracking, connection: Connection
) -> None:
    for took in range(1_000, 12_000, 1_000):  # 11 of them: the median is 6,000, nine in ten 10,000
        deliver(connection, tracking, took=took, flow=Flow.REPORTED)
    new, code = place(tracking, flow=Flow.REPORTED)
    began = datetime.now(UTC)
    move(connection, new, Status.IN_TRANSIT, at=began)
    assert expectation(following, code) == Expectation(
        began + timedelta(seconds=6_000), began + timedelta(seconds=10_000), is_late=False
    )
    # What others took says nothing of another flow, nor of a status that they did not pass.
    other, simulated = place(tracking)
    move(connection, other, Status.IN_TRANSIT, at=began)
    assert expectation(following, simulated) == Expectation(
        began + timedelta(seconds=700), began + timedelta(seconds=1_050), is_late=False
    )
    move(connection, new, Status.OUT_FOR_DELIVERY)
    assert expectation(following, code) is None


def test_a_parcel_that_takes_longer_than_usual_is_late(
    ask: Ask, following: Following, tracking: Tracking, connection: Connection
) -> None:
    new, code = place(tracking)
    move(connection, new, Status.PROCESSING, at=datetime.now(UTC) - timedelta(seconds=1_000))
    told = expectation(following, code)
    assert told
    assert (told.earliest, told.is_late) == (None, False)  # between 900 and 1,350
    assert "longer than usual" in ask(f"/t/{code}").text  # 16 s in these settings
    reported = place(tracking, flow=Flow.REPORTED)[1]
    assert "no telling" in ask(f"/t/{reported}").text


def test_what_a_tenant_took_is_measured_once_a_minute(
    pool: ConnectionPool, tracking: Tracking, connection: Connection
) -> None:
    now = 0.0
    following = Following(pool, schedule=Schedule(DELAYS), clock=lambda: now)
    new, code = place(tracking, flow=Flow.REPORTED)
    move(connection, new, Status.IN_TRANSIT)
    assert expectation(following, code) is None
    for _ in range(5):
        deliver(connection, tracking, took=60, flow=Flow.REPORTED)
    assert expectation(following, code) is None
    now = 61.0
    assert expectation(following, code)


def test_what_cannot_be_measured_fails_no_page_and_is_not_asked_for_by_everybody(
    settings: Settings, tracking: Tracking, connection: Connection
) -> None:
    now = 0.0
    options = {"statement_timeout": "500ms"}
    _, code = place(tracking)
    with (
        open_pool(
            settings.database_url, application_name="test", size=4, options=options, timeout=5
        ) as pool,
        ThreadPoolExecutor(4) as visitors,
    ):
        following = Following(pool, schedule=Schedule(DELAYS), clock=lambda: now)
        with connection.transaction():
            # Only what is measured needs it.
            connection.execute("LOCK order_statuses")
            began = time.monotonic()
            told = list(visitors.map(lambda _: expectation(following, code), range(8)))
            assert told == [None] * 8
            assert time.monotonic() - began < 1  # one of them has waited, once
        now = 9.0
        assert expectation(following, code) is None
        now = 11.0
        known = expectation(following, code)
        assert known
        with connection.transaction():
            connection.execute("LOCK order_statuses")
            now = 100.0
            assert expectation(following, code) == known


def test_what_goes_wrong_is_told(ask: Ask, tracking: Tracking, connection: Connection) -> None:
    new, code = place(tracking)
    for status in JOURNEY[:-1]:
        move(connection, new, status)
    move(connection, new, Status.DELIVERY_FAILED, attempt=1)
    answer = ask(f"/t/{code}")
    assert "could not be delivered" in answer.text
    assert "Expected" in answer.text  # it is tried again
    move(connection, new, Status.OUT_FOR_DELIVERY, attempt=2)
    move(connection, new, Status.PROCESSING, kind="correction", corrects=2)
    connection.execute("UPDATE orders SET status = 'out_for_delivery' WHERE id = %s", (new.id,))
    answer = ask(f"/t/{code}", Accept_Language="pt-BR")
    assert "Tentativa 2" in answer.text
    assert "corrigido depois" in answer.text
    assert re.search(r'<html lang="pt-BR">', answer.text)
    assert answer.headers["content-language"] == "pt-BR"
    move(connection, new, Status.LOST)
    assert "has been lost" in ask(f"/t/{code}").text
    assert "Expected" not in ask(f"/t/{code}").text


def test_an_address_may_ask_only_so_often(ask: Ask) -> None:
    # The window slides: a few more may pass where it began in the minute before.
    answers = [ask("/t") for _ in range(330)]
    assert {each.status_code for each in answers[:300]} == {200}
    refused = answers[-1]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert "Too many questions" in refused.text


def test_all_that_is_watched_is_read_with_one_statement(
    following: Following, tracking: Tracking, connection: Connection
) -> None:
    topic = page.ParcelTopic(following)
    placed = [place(tracking)[0] for _ in range(3)]
    keys = frozenset(str(each.id) for each in placed)
    assert topic.read(keys) == dict.fromkeys(keys, 1)
    move(connection, placed[0], Status.PROCESSING)
    assert topic.read(keys)[str(placed[0].id)] == 2


def test_no_statement_reads_a_table_through(
    settings: Settings, tracking: Tracking, connection: Connection
) -> None:
    new, code = place(tracking)
    deliver(connection, tracking, took=60, flow=Flow.SIMULATED)
    parameters = {
        "tracking_number": number_of(code),
        "order_id": new.id,
        "order_ids": [new.id],
        "version": 1,
        "tenant_id": 1,
        "most": 1_000,
        "sample": 300,
        "few": 5,
    }
    options = {**CALLER_SESSION, "role": Role.API, "enable_seqscan": "off"}
    url = settings.database_url
    with (
        open_pool(url, application_name="test", size=1, options=options, timeout=5) as pool,
        pool.connection() as asking,
    ):
        for name, query in statements.load("following.sql").items():
            plan = str(asking.execute(f"EXPLAIN {query}", parameters).fetchall())
            # With scans forbidden, one that is left is one that no index can serve.
            assert "Seq Scan" not in plan, name
            assert "Index" in plan, name


def test_it_can_be_left_out(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SLIMTRACK_TRACKING_PAGE": "off"}
    with serve(environment, tmp_path, workers=1) as server:
        answer = server.send(b"GET /t HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.status == 404
        assert b"path-not-found" in answer.body
