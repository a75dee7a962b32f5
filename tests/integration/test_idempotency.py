"""A command that is sent again with its key has no effect, and the same answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from clients import Caller, Callers, Result
from observing import count, wait_until
from psycopg_pool import ConnectionPool

from slimtrack.outbox.pruning import Pruning

BODY = b'{"description": "Two boxes", "reference": "PO-1"}'


def send(caller: Caller, key: str, body: bytes = BODY, path: str = "/api/orders") -> Result:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    return caller.simulate_post(path, body=body, headers=headers)


def test_the_same_command_has_the_same_answer_byte_for_byte(
    caller: Caller, connection: psycopg.Connection
) -> None:
    first, second = send(caller, "k-1"), send(caller, '"k-1"')
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert count(connection, "orders") == 1


def test_a_refused_command_is_refused_in_the_same_words(caller: Caller) -> None:
    send(caller, "k-1")
    refused, again = send(caller, "k-2"), send(caller, "k-2")
    assert (refused.status_code, again.status_code) == (409, 409)
    assert refused.content == again.content
    assert again.headers["Content-Type"] == "application/problem+json"


def test_the_key_of_another_command_is_refused(
    caller: Caller, connection: psycopg.Connection
) -> None:
    order = send(caller, "k-1").json["id"]
    for answer in (
        send(caller, "k-1", b'{"description": "Three boxes"}'),
        send(caller, "k-1", b"{}", f"/api/orders/{order}/cancel"),
    ):
        assert answer.status_code == 422
        assert answer.json["type"] == "urn:slimtrack:problem:idempotency-key-reused"
    assert count(connection, "order_events") == 1


def test_an_invalid_command_leaves_its_key_free(caller: Caller) -> None:
    assert send(caller, "k-1", b"{}").status_code == 422
    assert send(caller, "k-1").status_code == 201


def test_the_same_key_of_another_tenant_is_another_key(callers: Callers) -> None:
    first, second = callers.make(tenant="a"), callers.make(tenant="b")
    assert send(first, "k-1").json["id"] != send(second, "k-1").json["id"]


@pytest.mark.parametrize("key", ["", '""', "a b", "ä", "x" * 256, "a\tb"])
def test_what_is_no_key_is_a_400(caller: Caller, key: str) -> None:
    answer = send(caller, key)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "Idempotency-Key"


@contextmanager
def in_use(connection: psycopg.Connection, key: str) -> Iterator[None]:
    """As if another request with this key were being carried out."""
    with connection.transaction():
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(id || ':' || %s, 0))"
            " FROM tenants WHERE name = 'shop'",
            [key],
        )
        yield


def test_200_at_once_with_one_key_are_one_order_and_identical_answers(
    caller: Caller, connection: psycopg.Connection
) -> None:
    busy = []

    def ask(_: int) -> bytes:
        while True:
            answer = send(caller, "k-1")
            if answer.status_code == 201:
                return answer.content
            # While it is worked on, callers are told to come back.
            assert answer.status_code in {409, 503}
            assert answer.headers["Retry-After"] == "1"
            busy.append(answer.status_code)
            time.sleep(0.05)

    with ThreadPoolExecutor(200) as threads:
        with in_use(connection, "k-1"):
            asked = [threads.submit(ask, number) for number in range(200)]
            wait_until(lambda: len(busy) > 200)
        answers = {each.result() for each in asked}
    assert len(answers) == 1
    assert count(connection, "orders") == count(connection, "order_events") == 1


def test_a_command_that_is_being_carried_out_is_a_409(
    caller: Caller, connection: psycopg.Connection
) -> None:
    with in_use(connection, "k-1"):
        answer = send(caller, "k-1")
        assert answer.status_code == 409
        assert answer.json["type"] == "urn:slimtrack:problem:idempotency-key-in-use"
        assert answer.headers["Retry-After"] == "1"
    assert send(caller, "k-1").status_code == 201


def test_a_failure_of_ours_stores_nothing(caller: Caller, connection: psycopg.Connection) -> None:
    connection.execute("ALTER TABLE outbox RENAME TO elsewhere")
    connection.execute("UPDATE tenants SET flow = 'simulated'")
    assert send(caller, "k-1").status_code == 500
    connection.execute("ALTER TABLE elsewhere RENAME TO outbox")
    assert count(connection, "idempotency_keys") == count(connection, "orders") == 0
    assert send(caller, "k-1").status_code == 201


def test_a_key_is_forgotten_after_its_time(
    caller: Caller, connection: psycopg.Connection, pool: ConnectionPool
) -> None:
    pruning = Pruning(pool, answer_lifetime=86_400)
    first = send(caller, "k-1", b'{"description": "a"}').json["id"]
    assert pruning.prune() == 0
    connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    again = send(caller, "k-1", b'{"description": "a"}').json["id"]
    assert again != first
    connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    assert pruning.prune() == 1
    assert count(connection, "idempotency_keys") == 0
