"""Bad input, of every kind: each has its status and its type, and leaves no trace."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import psycopg
import pytest
from clients import Caller, Callers

from slimtrack.domain.access import Scope
from slimtrack.domain.order import JOURNEY
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.use_cases.access import new_token
from slimtrack.use_cases.tracking import Tracking

JSON = {"Content-Type": "application/json"}
UNKNOWN = "01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8"
ORDERS = "/api/orders"
BULK = "/api/orders/bulk"


class Bad(NamedTuple):
    """A request, and how it has to be answered; ``{order}`` in its path is a known order's id."""

    status: int
    kind: str
    method: str = "POST"
    path: str = ORDERS
    body: bytes = b""
    headers: dict[str, str] = JSON
    query: str = ""
    caller: str = "owner"


def order(**fields: Any) -> bytes:
    return json.dumps({"description": "Two boxes", **fields}).encode()


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def metadata(text: str) -> bytes:
    return raw(f'{{"description":"a","metadata":{text}}}')


def bodies() -> Iterator[tuple[str, Bad]]:
    """Bodies that are not JSON, wherever one is read."""
    paths = {
        ORDERS: ("order", "description", b'{"description":"a"}'),
        "/api/orders/{order}/cancel": ("cancellation", "reason", b"{}"),
        "/api/orders/{order}/reports": ("report", "message", b'{"status":"lost"}'),
        "/api/orders/{order}/corrections": (
            "correction",
            "message",
            b'{"sequence":1,"message":"a"}',
        ),
    }
    wrong = {"a list": b"[]", "null": b"null", "a number": b"7", "an unknown field": b'{"color":1}'}
    for path, (subject, field, valid) in paths.items():
        start = b'{"' + field.encode() + b'":'
        malformed = {
            "cut short": start + b'"a"',
            "followed by more": valid + b"{}",
            "a comment": b"/* a */" + valid,
            "single quotes": valid.replace(b'"', b"'") if valid != b"{}" else b"{'a':1}",
            "NaN": start + b"NaN}",
            "UTF-16": valid.decode().encode("utf-16"),
            "Latin-1": start + b'"\xe9"}',
            "half of a pair": start + rb'"\ud83d"}',
            "a byte order mark": b"\xef\xbb\xbf" + valid,
        }
        for name, body in malformed.items():
            yield f"{subject}: {name}", Bad(400, "malformed-body", path=path, body=body)
        for name, body in wrong.items():
            yield f"{subject}: {name}", Bad(422, f"invalid-{subject}", path=path, body=body)
        for kind in ("text/plain", "application/xml", "application/json; charset=latin-1"):
            bad = Bad(415, "unsupported-body", path=path, headers={"Content-Type": kind})
            yield f"{subject}: {kind}", bad._replace(body=b"{}")
        large = Bad(413, "body-too-large", path=path, body=b" " * 65_537)
        yield f"{subject}: too large", large
        gzip = {**JSON, "Content-Encoding": "gzip"}
        yield f"{subject}: compressed", Bad(415, "unsupported-body", path=path, headers=gzip)
    yield "order: empty", Bad(400, "malformed-body")
    deep = b'{"description":"a","metadata":' + b'{"a":' * 10_000
    yield "order: too deep", Bad(400, "malformed-body", body=deep)
    yield "bulk: not a list", Bad(422, "invalid-bulk", path=BULK, body=b"{}")
    yield "bulk: nothing in it", Bad(422, "invalid-bulk", path=BULK, body=b"[]")
    yield (
        "bulk: too many",
        Bad(422, "invalid-bulk", path=BULK, body=json.dumps([1] * 1001).encode()),
    )
    yield "bulk: cut short", Bad(400, "malformed-body", path=BULK, body=b"[1")
    yield "bulk: too large", Bad(413, "body-too-large", path=BULK, body=b" " * 1_048_577)


def orders() -> Iterator[tuple[str, Bad]]:
    """New orders that cannot be."""
    wrong: dict[str, bytes] = {
        "no description": b"{}",
        "description null": order(description=None),
        "description true": order(description=True),
        "description a number": order(description=1),
        "description empty": order(description=""),
        "description blank": order(description=" \u00a0\u3000\n"),
        "description invisible": order(description="\u200b\ufeff"),
        "description too long": order(description="é" * 501),
        "description with NUL": order(description="a\0"),
        "description with ESC": order(description="\x1b[2J"),
        "description with C1": order(description="\x9b"),
        "description twice": b'{"description":"a","description":"b"}',
        "reference a number": order(reference=1),
        "reference empty": order(reference=" "),
        "reference too long": order(reference="a" * 101),
        "reference with a line": order(reference="a\nb"),
        "reference with a line separator": order(reference="a\u2028b"),
        "metadata a list": order(metadata=[]),
        "metadata a text": order(metadata="{}"),
        "metadata too large": order(metadata={"a": "é" * 2048}),
        "metadata too deep": metadata('{"a":' * 33 + "1" + "}" * 33),
        "metadata with NUL": order(metadata={"a": ["\0"]}),
        "metadata with NUL in a name": order(metadata={"\0": 1}),
        "metadata with 64 bits and one": metadata(f'{{"a":{2**63}}}'),
        "metadata with 1e400": metadata('{"a":1e400}'),
        "a name in metadata twice": metadata('{"a":{"b":1,"b":2}}'),
        "flow of nowhere": order(flow="teleported"),
        "flow a number": order(flow=1),
        "the caller's status": order(status="delivered"),
        "the caller's id": order(id=UNKNOWN),
        "the caller's version": order(version=9),
        "the caller's tenant": order(tenant_id=2),
        "the caller's tracking code": order(tracking_code="SL-0000-0000-0000-0"),
        "the caller's time": order(created_at="2026-01-31T12:00:00Z"),
        "a row's idempotency key": order(idempotency_key="k"),
    }
    for name, body in wrong.items():
        yield f"order: {name}", Bad(422, "invalid-order", body=body)
    taken = Bad(409, "reference-taken", body=order(reference="taken"))
    yield "order: a reference that is taken", taken


def commands() -> Iterator[tuple[str, Bad]]:
    """Commands on an order that is received, and is at version 1."""
    reports: dict[str, Any] = {
        "no status": {},
        "a status of nowhere": {"status": "shipped"},
        "a status in capitals": {"status": "PROCESSING"},
        "received": {"status": "received"},
        "cancelled": {"status": "cancelled"},
        "status a list": {"status": ["processing"]},
        "attempt 0": {"status": "delivered", "attempt": 0},
        "attempt a text": {"status": "delivered", "attempt": "1"},
        "attempt true": {"status": "delivered", "attempt": True},
        "attempt huge": {"status": "delivered", "attempt": 2**15},
        "message empty": {"status": "processing", "message": ""},
        "message too long": {"status": "processing", "message": "a" * 501},
        "message with NUL": {"status": "processing", "message": "\0"},
        "reason blank": {"status": "delivery_failed", "reason": " "},
        "reason a number": {"status": "delivery_failed", "reason": 7},
        "reason too long": {"status": "delivery_failed", "reason": "a" * 501},
        "location with a line": {"status": "processing", "location": "a\nb"},
        "location too long": {"status": "processing", "location": "a" * 201},
        "source blank": {"status": "processing", "source": " "},
        "source too long": {"status": "processing", "source": "a" * 101},
        "the time as a number": {"status": "processing", "occurred_at": 1769860800},
        "the time without a zone": {"status": "processing", "occurred_at": "2026-01-31T12:00:00"},
        "a day without a time": {"status": "processing", "occurred_at": "2026-01-31"},
        "a day that is none": {"status": "processing", "occurred_at": "2026-02-30T12:00:00Z"},
        "the far future": {"status": "processing", "occurred_at": "2999-01-01T00:00:00Z"},
        "the last century": {"status": "processing", "occurred_at": "1999-12-31T23:59:59Z"},
        "the year 1": {"status": "processing", "occurred_at": "0001-01-01T00:00:00+14:00"},
        "a version": {"status": "processing", "version": 1},
        "a sequence": {"status": "processing", "sequence": 7},
    }
    path = "/api/orders/{order}/reports"
    for name, body in reports.items():
        yield (
            f"report: {name}",
            Bad(422, "invalid-report", path=path, body=json.dumps(body).encode()),
        )
    for status in ("in_transit", "out_for_delivery", "delivered", "delivery_failed", "returned"):
        body = json.dumps({"status": status}).encode()
        yield f"report: {status} at once", Bad(409, "transition-not-allowed", path=path, body=body)
    corrections: dict[str, Any] = {
        "no message": {"sequence": 1},
        "no sequence": {"message": "a"},
        "sequence 0": {"sequence": 0, "message": "a"},
        "sequence true": {"sequence": True, "message": "a"},
        "sequence a text": {"sequence": "1", "message": "a"},
        "sequence a fraction": {"sequence": 1.5, "message": "a"},
        "sequence huge": {"sequence": 2**31, "message": "a"},
        "an event that is not there": {"sequence": 2, "message": "a"},
        "message blank": {"sequence": 1, "message": "\t"},
        "source a list": {"sequence": 1, "message": "a", "source": []},
    }
    path = "/api/orders/{order}/corrections"
    for name, body in corrections.items():
        yield (
            f"correction: {name}",
            Bad(422, "invalid-correction", path=path, body=json.dumps(body).encode()),
        )
    path = "/api/orders/{order}/cancel"
    for name, reason in {"a number": 1, "empty": "", "with ESC": "\x1b", "long": "a" * 501}.items():
        body = json.dumps({"reason": reason}).encode()
        yield f"cancel: reason {name}", Bad(422, "invalid-cancellation", path=path, body=body)
    for tag in ("1", '"a"', 'W/"1"', '"0"', '"01"', "", '"1","2"'):
        bad = Bad(400, "invalid-header", path=path, headers={"If-Match": tag})
        yield f"If-Match {tag or 'empty'}", bad
    yield "a stale version", Bad(412, "stale-version", path=path, headers={"If-Match": '"2"'})


def requests() -> Iterator[tuple[str, Bad]]:
    """Paths, methods, keys and headers."""
    wrong_ids = (
        *("7", "a" * 300, UNKNOWN, UNKNOWN.replace("-", ""), f"{{{UNKNOWN}}}", UNKNOWN[:-1] + "g"),
        *("%00", "%2e%2e", "SL-0000-0000-0000-1", "SL-UUUU-UUUU-UUUU-U", "%D9%A0" * 13, "*"),
    )
    for each in wrong_ids:
        for tail in ("", "/events"):
            bad = Bad(404, "order-not-found", "GET", f"{ORDERS}/{each}{tail}", headers={})
            yield f"GET {each[:40]}{tail}", bad
        bad = Bad(404, "order-not-found", path=f"{ORDERS}/{each}/cancel", body=b"{}")
        yield f"cancel {each[:40]}", bad
    for key in ("", '""', "a b", "é", "a" * 256, "\t", '" x'):
        headers = {**JSON, "Idempotency-Key": key}
        yield f"key {key[:9]!r}", Bad(400, "invalid-header", body=order(), headers=headers)
    for accept in ("text/html", "application/xml", "application/json;q=0"):
        yield f"Accept {accept}", Bad(406, "not-acceptable", "GET", headers={"Accept": accept})
    for method, path in (
        *(("DELETE", ORDERS), ("PUT", ORDERS), ("PATCH", "/api/orders/{order}")),
        *(("DELETE", "/api/orders/{order}"), ("DELETE", BULK), ("POST", "/api/flow")),
    ):
        yield f"{method} {path}", Bad(405, "method-not-allowed", method, path, headers={})
    for path in ("/", "/api", "/api/order", BULK + "/x/y", "/metrics", "/docs/../etc/passwd"):
        yield f"GET {path}", Bad(404, "path-not-found", "GET", path, headers={})
    for query in (
        "page=0",
        "page=101&page_size=100",
        "limit=x",
        "status=gone",
        "cursor=%00",
        "metadata=a",
        "metadata=a=b&metadata=a=c",
        "x=1",
    ):
        yield f"list ?{query}", Bad(400, "invalid-query", "GET", query=query, headers={})
    for token in ("", "x", new_token()):
        headers = {"Authorization": f"Bearer {token}"}
        yield f"key {token[:4]!r} of nobody", Bad(401, "unauthenticated", "GET", headers=headers)


def strangers() -> Iterator[tuple[str, Bad]]:
    """An order of somebody else's, and one's own with a key that is not made for it."""
    one = "/api/orders/{order}"
    report, correction = b'{"status":"processing"}', b'{"sequence":1,"message":"a"}'
    for method, path, body, powerless in (
        ("GET", one, b"", "courier"),
        ("GET", f"{one}/events", b"", "courier"),
        ("POST", f"{one}/cancel", b"{}", "courier"),
        ("POST", f"{one}/reports", report, "clerk"),
        ("POST", f"{one}/corrections", correction, "clerk"),
        ("GET", ORDERS, b"", "courier"),
        ("POST", ORDERS, order(), "courier"),
        ("POST", BULK, b"[]", "courier"),
    ):
        name = f"{method} {path}"
        nobody = Bad(401, "unauthenticated", method, path, body, caller="nobody")
        yield f"nobody: {name}", nobody
        yield (
            f"{powerless}: {name}",
            nobody._replace(status=403, kind="forbidden", caller=powerless),
        )
        if path.startswith(one):
            rival = nobody._replace(status=404, kind="order-not-found", caller="rival")
            yield f"rival: {name}", rival


TABLE = dict([*bodies(), *orders(), *commands(), *requests(), *strangers()])


class Known(NamedTuple):
    """Callers by name, the owner's order, which has taken a reference, and a look at the tables."""

    callers: dict[str, Caller]
    order: str
    connection: psycopg.Connection[Any]


@pytest.fixture(scope="module")
def known(servers: Mapping[str, str], template: str) -> Iterator[Known]:
    """What all of this input meets: one database, in which nothing may ever change."""
    place = servers["DATABASE_URL"].rpartition("/")[0]
    schedule = Schedule(dict.fromkeys(JOURNEY, 0.0))
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE bad_input TEMPLATE {template}")
        with (
            psycopg.connect(f"{place}/bad_input", autocommit=True) as looking,
            open_pool(
                f"{place}/bad_input", application_name="test", size=1, options={}, timeout=5
            ) as pool,
        ):
            tracking = Tracking(pool, wake_up=lambda: None, schedule=schedule)
            callers = Callers(tracking, pool, redis_url=servers["REDIS_URL"])
            owner = callers.make(tenant="shop")
            known = {
                "owner": owner,
                "rival": callers.make(tenant="rival"),
                "courier": callers.make(tenant="shop", scopes=[Scope.REPORTS_WRITE]),
                "clerk": callers.make(
                    tenant="shop", scopes=[Scope.ORDERS_READ, Scope.ORDERS_WRITE]
                ),
                "nobody": callers.with_token(None),
            }
            yield Known(known, owner.place(reference="taken")["id"], looking)
        connection.execute("DROP DATABASE bad_input WITH (FORCE)")


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_named_and_leaves_no_trace(known: Known, name: str) -> None:
    bad = TABLE[name]
    answer = known.callers[bad.caller].simulate_request(
        bad.method,
        bad.path.replace("{order}", known.order),
        query_string=bad.query,
        body=bad.body,
        headers=bad.headers,
    )
    assert answer.status_code == bad.status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["type"] == f"urn:slimtrack:problem:{bad.kind}"
    assert problem["status"] == bad.status
    assert problem["title"]
    assert len(problem["detail"]) > 10
    if bad.status in {400, 422} and problem["type"].rpartition(":")[2].startswith("invalid-"):
        assert problem["errors"]
    counts = known.connection.execute(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_events),"
        " (SELECT count(*) FROM outbox), (SELECT count(*) FROM idempotency_keys)"
    ).fetchone()
    assert counts == (1, 1, 0, 0)
