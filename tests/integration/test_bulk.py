"""Many orders in one request."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from clients import Caller, Result


def send(caller: Caller, rows: list[Any], **headers: str) -> Result:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return caller.simulate_post("/api/orders/bulk", json=rows, headers=given)


def order(number: int, **fields: Any) -> dict[str, Any]:
    return {"description": f"Parcel {number}", "reference": f"PO-{number}", **fields}


def test_a_thousand_orders_are_placed_in_one_statement(
    caller: Caller, connection: psycopg.Connection
) -> None:
    answer = send(caller, [order(number) for number in range(1000)])
    assert answer.status_code == 200
    assert (answer.json["placed"], answer.json["refused"]) == (1000, 0)
    first = answer.json["results"][0]
    found = caller.simulate_get(f"/api/orders/{first['tracking_code']}").json
    assert (found["id"], found["description"]) == (first["id"], "Parcel 0")
    assert connection.execute(
        "SELECT count(*), count(DISTINCT xmin::text) FROM orders"
    ).fetchone() == (
        1000,
        1,
    )


def test_each_row_has_its_own_result(caller: Caller) -> None:
    taken = caller.place(reference="PO-1")
    answer = send(
        caller, [order(0), {"description": ""}, order(1), 7, order(0), order(2, status="lost")]
    )
    assert answer.status_code == 200
    results = answer.json["results"]
    assert [each["status"] for each in results] == [201, 422, 409, 422, 409, 422]
    assert results[1]["problem"]["errors"][0]["field"] == "description"
    assert results[2]["problem"]["order_id"] == taken["id"]
    assert results[4]["problem"]["order_id"] == results[0]["id"]
    assert (answer.json["placed"], answer.json["refused"]) == (1, 5)


def test_lines_of_json_are_taken_too(caller: Caller) -> None:
    body = b'{"description": "a"}\n\n{"description": "b"}\nnonsense\n'
    answer = caller.simulate_post(
        "/api/orders/bulk", body=body, headers={"Content-Type": "application/x-ndjson"}
    )
    assert [each["status"] for each in answer.json["results"]] == [201, 201, 400]


def test_a_repeated_request_places_nothing_twice(
    caller: Caller, connection: psycopg.Connection
) -> None:
    first = send(caller, [order(0), order(0)], Idempotency_Key="k")
    second = send(caller, [order(0), order(0)], Idempotency_Key="k")
    assert first.content == second.content
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1,)


def test_a_row_with_a_key_is_placed_once_whatever_it_comes_with(
    caller: Caller, connection: psycopg.Connection
) -> None:
    def row(number: int, **fields: Any) -> dict[str, Any]:
        return {"description": f"Parcel {number}", "idempotency_key": f"k-{number}", **fields}

    first = send(caller, [row(0), row(1)]).json["results"]
    second = send(caller, [row(2), row(1), row(0), row(2)]).json["results"]
    assert second[1:3] == [first[1], first[0]]
    assert (second[0]["status"], second[3]["status"]) == (201, 422)
    changed = send(caller, [row(0, reference="other"), row(3, idempotency_key="a b")])
    assert [each["status"] for each in changed.json["results"]] == [422, 422]
    assert changed.json["results"][0]["problem"]["type"].endswith("idempotency-key-reused")
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)


@contextmanager
def in_use(connection: psycopg.Connection, key: str) -> Iterator[None]:
    """As if another request were placing the row of this key."""
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(id || ':' || %s, 0))"
            " FROM tenants WHERE name = 'shop'",
            [key],
        )
        yield


def test_a_row_whose_key_is_in_use_is_refused_and_the_others_are_placed(
    caller: Caller, connection: psycopg.Connection
) -> None:
    rows = [{"description": "a"}, {"description": "b", "idempotency_key": "k-1"}]
    with in_use(connection, "k-1"):
        answer = send(caller, rows).json
    assert [each["status"] for each in answer["results"]] == [201, 409]
    assert answer["results"][1]["problem"]["type"].endswith("idempotency-key-in-use")
    assert send(caller, rows[1:]).json["placed"] == 1


def test_what_is_over_in_a_moment_is_not_the_answer_for_a_day(
    caller: Caller, connection: psycopg.Connection
) -> None:
    rows = [{"description": "a"}, {"description": "b", "idempotency_key": "k-1"}]
    with in_use(connection, "k-1"):
        busy = send(caller, rows, Idempotency_Key="all")
    assert busy.status_code == 409
    assert busy.json["type"] == "urn:slimtrack:problem:idempotency-key-in-use"
    assert "'k-1'" in busy.json["detail"]
    assert busy.headers["Retry-After"] == "1"
    assert connection.execute(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM idempotency_keys)"
    ).fetchone() == (0, 0)
    first, second = (send(caller, rows, Idempotency_Key="all") for _ in range(2))
    assert (first.json["placed"], second.content) == (2, first.content)
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (2,)


def test_an_empty_body_is_called_empty(caller: Caller) -> None:
    for path in ("/api/orders", "/api/orders/bulk"):
        answer = caller.simulate_post(path, body=b" ", headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json["detail"]) == (400, "The body is empty.")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[", 400),
        (b"{}", 422),
        (b"[]", 422),
        (json.dumps([{"description": "a"}] * 1001).encode(), 422),
        (b"[" + b" " * 1024 * 1024, 413),
    ],
)
def test_a_request_that_is_no_list_of_orders_is_refused_as_a_whole(
    caller: Caller, body: bytes, status: int
) -> None:
    answer = caller.simulate_post(
        "/api/orders/bulk", body=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
