"""The API on a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import falcon.testing
import psycopg
import pytest

from slimtrack.domain.access import ANYBODY
from slimtrack.domain.order import Status
from slimtrack.http.app import create_app
from slimtrack.http.auth import Open
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.use_cases.tracking import Tracking

UNKNOWN = "/api/orders/01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"


@pytest.fixture
def client(tracking: Tracking) -> falcon.testing.TestClient:
    app = create_app(
        tracking=tracking,
        cache=HistoryCache("redis://127.0.0.1:1/0"),
        authentication=Open(lambda: ANYBODY),
        dependencies={},
        required=(),
    )
    return falcon.testing.TestClient(app, headers={"Host": "localhost"})


def place(client: falcon.testing.TestClient, **fields: Any) -> falcon.testing.Result:
    return client.simulate_post("/api/orders", json={"description": "Two boxes", **fields})


def test_an_order_is_placed_and_found_again_where_location_says(
    client: falcon.testing.TestClient,
) -> None:
    placed = place(client, description=" Two boxes ", reference="A-1", metadata={"floor": 2})
    assert placed.status_code == 201
    assert placed.headers["Content-Type"] == "application/json"
    order = placed.json
    assert placed.headers["Location"] == f"/api/orders/{order['id']}"
    assert order == {
        "id": order["id"],
        "tracking_code": order["tracking_code"],
        "reference": "A-1",
        "description": "Two boxes",
        "metadata": {"floor": 2},
        "flow": "simulated",
        "status": "received",
        "delivery_attempts": 0,
        "version": 1,
        "created_at": order["created_at"],
        "updated_at": order["created_at"],
    }
    age = datetime.now(UTC) - datetime.fromisoformat(order["created_at"])
    assert abs(age) < timedelta(minutes=1)
    found = client.simulate_get(placed.headers["Location"])
    assert found.status_code == 200
    assert found.json == order


def test_an_id_is_found_in_either_case(client: falcon.testing.TestClient) -> None:
    order_id = place(client).json["id"]
    assert client.simulate_get(f"/api/orders/{order_id.upper()}").json["id"] == order_id


def test_what_was_placed_is_what_is_read(client: falcon.testing.TestClient) -> None:
    given = {
        "description": 'e\u0301 \U0001f4e6 שלום\u202e "\\u0000" \\ \n\t;--',
        "reference": "№ 7/\U0001f4e6",
        "metadata": {
            "numbers": [0, -(2**63), 2**63 - 1, 0.1, 9.2e18, -1e-300],
            "others": [None, True, False, "", "\x1b\x7f", {"": []}],
            "12:00": {"nested": {"é": "\\u0000"}},
        },
    }
    placed = place(client, **given)
    assert placed.status_code == 201
    found = client.simulate_get(placed.headers["Location"]).json
    assert found == placed.json
    assert {name: found[name] for name in given} == given


def test_the_history_of_an_order_is_chronological(
    client: falcon.testing.TestClient, tracking: Tracking, connection: psycopg.Connection
) -> None:
    placed = place(client)
    ids = [row[0] for row in connection.execute("SELECT id FROM outbox")]
    tracking.advance(Status.PROCESSING, ids)
    history = client.simulate_get(placed.headers["Location"] + "/events")
    assert history.status_code == 200
    assert history.json["order_id"] == placed.json["id"]
    first, second = history.json["events"]
    assert first == {
        "sequence": 1,
        "kind": "transition",
        "status": "received",
        "message": "Order received",
        "reason": None,
        "location": None,
        "source": None,
        "attempt": None,
        "corrects": None,
        "occurred_at": placed.json["created_at"],
        "recorded_at": first["recorded_at"],
    }
    assert (second["sequence"], second["status"]) == (2, "processing")
    assert first["occurred_at"] < second["occurred_at"]
    assert client.simulate_get(placed.headers["Location"]).json["version"] == 2


def test_the_correlation_id_of_a_request_stays_with_its_order(
    client: falcon.testing.TestClient, connection: psycopg.Connection
) -> None:
    headers = {"X-Request-ID": "checkout-7"}
    client.simulate_post("/api/orders", json={"description": "a"}, headers=headers)
    query = "SELECT correlation_id FROM order_events UNION SELECT correlation_id FROM outbox"
    assert connection.execute(query).fetchall() == [("checkout-7",)]


def test_a_reference_that_is_taken_is_a_409_that_names_the_first_order(
    client: falcon.testing.TestClient,
) -> None:
    first = place(client, reference="A-1")
    second = place(client, description="Something else", reference=" A-1 ")
    assert second.status_code == 409
    assert second.headers["Content-Type"] == "application/problem+json"
    assert second.json["type"] == "urn:slimtrack:problem:reference-taken"
    assert second.json["order_id"] == first.json["id"]
    assert client.simulate_get(second.json["order_url"]).json == first.json
    assert client.simulate_get("/api/orders").json["total"] == 1


def test_orders_are_listed_newest_first_in_pages(client: falcon.testing.TestClient) -> None:
    ids = [place(client, reference=str(number)).json["id"] for number in range(12)]
    ids.sort(reverse=True)
    first = client.simulate_get("/api/orders").json
    assert (first["page"], first["page_size"], first["total"]) == (1, 10, 12)
    assert [order["id"] for order in first["orders"]] == ids[:10]
    last = client.simulate_get("/api/orders?page=3&page_size=5").json
    assert (last["page"], last["page_size"], last["total"]) == (3, 5, 12)
    assert [order["id"] for order in last["orders"]] == ids[10:]


def test_the_last_page_there_may_be_is_empty(client: falcon.testing.TestClient) -> None:
    place(client)
    answer = client.simulate_get("/api/orders?page=100&page_size=100")
    assert answer.status_code == 200
    assert (answer.json["orders"], answer.json["total"]) == ([], 1)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=%D9%A3", "page=%ff", "page=1&page=2", "page_size=101", "sort=id", "%00"],
)
def test_a_query_that_is_wrong_is_a_400(client: falcon.testing.TestClient, query: str) -> None:
    answer = client.simulate_get("/api/orders", query_string=query)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["errors"]


@pytest.mark.parametrize("path", [UNKNOWN, UNKNOWN + "/events", "/api/orders/7", "/api/orders/%00"])
def test_an_order_that_does_not_exist_is_a_404(
    client: falcon.testing.TestClient, path: str
) -> None:
    answer = client.simulate_get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["type"] == "urn:slimtrack:problem:order-not-found"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"description":"\\u0000"}',
        b'{"description":"\\ud800"}',
        b'{"description":"a","metadata":{"\\u0000":1}}',
        b'{"description":"a","metadata":{"a":1e400}}',
        b'{"description":"a","metadata":{"a":1,"a":2}}',
        b'{"description":"a","status":"delivered"}',
        b'{"description":"a","reference":""}',
        b'{"description":"' + b"a" * 501 + b'"}',
        b'{"description":"a","metadata":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
    ],
)
def test_bad_input_is_a_problem_and_never_a_row(
    client: falcon.testing.TestClient, connection: psycopg.Connection, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.simulate_post("/api/orders", body=body, headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == answer.status_code
    query = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM outbox)"
    assert connection.execute(query).fetchone() == (0,)
