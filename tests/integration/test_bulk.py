"""Many orders in one request."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
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


def test_requests_with_rows_of_the_same_keys_wait_for_each_other(
    caller: Caller, connection: psycopg.Connection
) -> None:
    rows = [{"description": "a", "idempotency_key": f"k-{number}"} for number in range(50)]
    start = threading.Barrier(8)

    def place(number: int) -> dict[str, str]:
        start.wait()
        turned = rows[number:] + rows[:number]
        results = send(caller, turned).json["results"]
        assert {each["status"] for each in results} == {201}
        keys = [row["idempotency_key"] for row in turned]
        return dict(zip(keys, [each["id"] for each in results], strict=True))

    with ThreadPoolExecutor(8) as threads:
        placed = list(threads.map(place, range(8)))
    assert all(each == placed[0] for each in placed)
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (50,)


def test_many_keys_take_one_lock(caller: Caller, connection: psycopg.Connection) -> None:
    rows = [{"description": "a", "idempotency_key": f"k-{number}"} for number in range(1000)]
    connection.execute("CREATE TABLE locks (held int)")
    connection.execute(
        "CREATE FUNCTION count_locks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO locks SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
        " AND locktype = 'advisory'; RETURN NULL; END $$;"
        "CREATE TRIGGER count_locks AFTER INSERT ON orders FOR EACH STATEMENT"
        " EXECUTE FUNCTION count_locks()"
    )
    assert send(caller, rows).json["placed"] == 1000
    assert connection.execute("SELECT held FROM locks").fetchall() == [(1,)]


def test_the_key_of_a_request_is_not_that_of_a_row(caller: Caller) -> None:
    rows = [{"description": "a", "idempotency_key": "k"}]
    first, second = (send(caller, rows, Idempotency_Key="k") for _ in range(2))
    assert (first.json["placed"], second.content) == (1, first.content)
    assert send(caller, rows).json["results"] == first.json["results"]


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
