"""The app around its resources, with a database that nobody can reach."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import falcon.testing
import pytest
import structlog
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import ANYBODY
from slimtrack.http.app import create_app
from slimtrack.http.auth import Open
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.routing import Schedule
from slimtrack.use_cases.tracking import Tracking

JSON = {"Content-Type": "application/json"}
ORDER = b'{"description":"Two boxes"}'
PROBLEM = "application/problem+json"


def unreachable() -> Tracking:
    pool: ConnectionPool[Any] = ConnectionPool("", open=False)
    return Tracking(pool, wake_up=lambda: None, schedule=Schedule({}))


def client(**states: bool) -> falcon.testing.TestClient:
    """Return a client of an app whose dependencies are in these states; Redis is optional."""
    return client_of({name: partial(bool, state) for name, state in states.items()})


def client_of(
    dependencies: Mapping[str, Callable[[], bool]], **who_works: bool | None
) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(
        create_app(
            tracking=unreachable(),
            cache=HistoryCache("redis://127.0.0.1:1/0"),
            authentication=Open(lambda: ANYBODY),
            dependencies=dependencies,
            required=set(dependencies) - {"redis"},
            who_works=lambda: who_works,
        ),
        headers={"Host": "localhost"},
    )


def test_readiness_asks_once_a_second_however_many_want_to_know() -> None:
    asked: list[str] = []

    def answers() -> bool:
        asked.append("postgresql")
        return True

    caller = client_of({"postgresql": answers})
    for _ in range(20):
        assert caller.simulate_get("/health/ready").json["status"] == "ready"
    assert asked == ["postgresql"]


def test_a_server_that_hangs_makes_no_other_look_away() -> None:
    """Of two who ask at the same time one would wait for long, and is told what is known."""
    hangs = threading.Event()
    begun = threading.Event()

    def redis() -> bool:
        if hangs.is_set():
            begun.set()
            time.sleep(1.5)
        return not hangs.is_set()

    caller = client_of({"postgresql": lambda: True, "redis": redis})
    caller.simulate_get("/health/ready")
    time.sleep(1.1)  # for as long as what is known holds
    hangs.set()
    with ThreadPoolExecutor(max_workers=2) as callers:
        first = callers.submit(caller.simulate_get, "/health/ready")
        assert begun.wait(timeout=5)
        second = callers.submit(caller.simulate_get, "/health/ready")
    assert [each.result().status_code for each in (first, second)] == [200, 200]
    assert first.result().json["dependencies"] == {"postgresql": "up", "redis": "down"}


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


def test_the_process_is_live_whatever_its_dependencies_do() -> None:
    answer = client(postgresql=False).simulate_get("/health/live")
    assert answer.status_code == 200
    assert answer.json == {"status": "live"}


@pytest.mark.parametrize(
    ("postgresql", "redis", "code", "status"),
    [
        (True, True, 200, "ready"),
        (True, False, 200, "degraded"),
        (False, True, 503, "unavailable"),
        (False, False, 503, "unavailable"),
    ],
)
def test_readiness_names_each_dependency(
    *, postgresql: bool, redis: bool, code: int, status: str
) -> None:
    answer = client(postgresql=postgresql, redis=redis).simulate_get("/health/ready")
    assert answer.status_code == code
    assert answer.json == {
        "status": status,
        "dependencies": {
            "postgresql": "up" if postgresql else "down",
            "redis": "up" if redis else "down",
        },
        "processes": {},
    }


@pytest.mark.parametrize(
    ("works", "status", "word"),
    [(True, "ready", "up"), (False, "degraded", "down"), (None, "degraded", "unknown")],
)
def test_a_process_that_accepts_orders_is_ready_to_do_so_whoever_else_works(
    *, works: bool | None, status: str, word: str
) -> None:
    answer = client_of({"postgresql": lambda: True}, publisher=works).simulate_get("/health/ready")
    assert answer.status_code == 200
    assert answer.json["status"] == status
    assert answer.json["processes"] == {"publisher": word}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/orders"),
        ("GET", "/api/orders"),
        ("GET", "/api/orders/01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"),
        ("GET", "/api/orders/01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8/events"),
    ],
)
def test_a_database_that_is_down_is_a_503_with_retry_after(
    method: str, path: str, lines: list[Any]
) -> None:
    answer = client().simulate_request(method, path, body=ORDER, headers=JSON)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json["type"] == "urn:slimtrack:problem:unavailable"
    (line,) = lines
    assert (line["event"], line["log_level"], line["status"]) == ("request.served", "warning", 503)


def test_an_unexpected_error_is_logged_once_and_its_words_stay_inside(lines: list[Any]) -> None:
    def fail() -> bool:
        raise RuntimeError("the password is swordfish")

    app = create_app(
        tracking=unreachable(),
        cache=HistoryCache("redis://127.0.0.1:1/0"),
        authentication=Open(lambda: ANYBODY),
        dependencies={"postgresql": fail},
        required=(),
    )
    answer = falcon.testing.TestClient(app).simulate_get(
        "/health/ready", headers={"X-Request-ID": "abc", "Host": "localhost"}
    )
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json["type"] == "urn:slimtrack:problem:internal-error"
    assert "swordfish" not in answer.text
    [failed] = lines
    assert failed["event"] == "request.failed"
    assert isinstance(failed["exc_info"], RuntimeError)
    assert failed["correlation_id"] == "abc"


def test_a_request_is_logged_with_its_route_when_somebody_wants_to_know(
    lines: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    quiet = client()
    quiet.simulate_get("/api/orders/7")
    assert lines == []
    caplog.set_level(logging.DEBUG, logger="slimtrack.http.middleware")
    quiet.simulate_get("/api/orders/7")
    (line,) = lines
    assert line["log_level"] == "debug"
    assert (line["method"], line["status"]) == ("GET", 404)
    assert line["route"] == "/api/orders/{order}"
    assert 0 < line["duration"] < 5


def test_a_correlation_id_of_the_caller_comes_back() -> None:
    answer = client().simulate_get("/health/live", headers={"X-Request-ID": "Order_7.a-b"})
    assert answer.headers["X-Request-ID"] == "Order_7.a-b"


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "a\tb", "é", "a,b", "<script>", None])
def test_a_correlation_id_that_is_unfit_is_replaced(given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    first = client().simulate_get("/health/live", headers=headers).headers["X-Request-ID"]
    second = client().simulate_get("/health/live", headers=headers).headers["X-Request-ID"]
    assert len(first) == 32
    assert first not in {given, second}


def test_a_correlation_id_ends_with_its_request() -> None:
    client().simulate_get("/api/orders/7", headers={"X-Request-ID": "abc"})
    assert structlog.contextvars.get_contextvars() == {}


def test_an_unknown_path_is_a_404() -> None:
    answer = client().simulate_get("/api/nothing")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json["type"] == "urn:slimtrack:problem:path-not-found"
    assert answer.json["status"] == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_a_resource_lacks_is_a_405_that_names_the_others(method: str) -> None:
    answer = client().simulate_request(method, "/api/orders", body=ORDER, headers=JSON)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST, OPTIONS"
    assert answer.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize("method", ["FOO", "WEBSOCKET"])
def test_a_method_that_does_not_exist_is_a_400(method: str) -> None:
    answer = falcon.testing.StartResponseMock()
    client().app(
        falcon.testing.create_environ(path="/api/orders", method=method, host="localhost"), answer
    )
    assert answer.status == "400 Bad Request"
    headers = dict(answer.headers or ())
    assert headers["content-type"] == PROBLEM
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/json", PROBLEM, "text/html, */*;q=0.1", "", "*"],
)
def test_a_caller_that_takes_json_is_served(accept: str) -> None:
    assert client().simulate_get("/health/live", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "nonsense", ";;;", "a/b;q=9"]
)
def test_a_caller_that_takes_no_json_is_a_406(accept: str) -> None:
    answer = client().simulate_get("/health/live", headers={"Accept": accept})
    assert answer.status_code == 406
    assert answer.headers["Content-Type"] == PROBLEM
    assert "application/json" in answer.json["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=a"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/json; charset=latin-1"},
        {**JSON, "Content-Encoding": "gzip"},
    ],
)
def test_a_body_that_is_said_to_be_anything_but_json_is_a_415(headers: dict[str, str]) -> None:
    answer = client().simulate_post("/api/orders", body=ORDER, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json["type"] == "urn:slimtrack:problem:unsupported-body"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=UTF-8"],
)
def test_every_way_to_write_the_content_type_of_json_is_taken(content_type: str) -> None:
    answer = client().simulate_post("/api/orders", headers={"Content-Type": content_type})
    assert answer.json["detail"] == "The body is empty."


def test_a_body_beyond_64_kib_is_a_413_and_one_of_64_kib_is_read() -> None:
    largest = client().simulate_post("/api/orders", body=ORDER.ljust(64 * 1024), headers=JSON)
    assert largest.status_code == 503  # it came as far as the database
    answer = client().simulate_post("/api/orders", body=ORDER.ljust(64 * 1024 + 1), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == PROBLEM
    assert "65536" in answer.json["detail"]


def test_a_body_shorter_than_its_content_length_is_a_400() -> None:
    headers = {**JSON, "Content-Length": str(len(ORDER) + 1)}
    answer = client().simulate_post("/api/orders", body=ORDER, headers=headers)
    assert answer.status_code == 400
    assert answer.json["type"] == "urn:slimtrack:problem:malformed-body"
