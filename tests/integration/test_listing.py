"""Lists of orders: filters, pages, cursors."""

import random
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from clients import Caller, Callers

from slimtrack.domain.tracking_code import parse_code
from slimtrack.http import queries
from slimtrack.sql import listing
from slimtrack.use_cases.tracking import Tracking


def ids(caller: Caller, query: str = "") -> list[str]:
    answer = caller.simulate_get("/api/orders", query_string=query)
    assert answer.status_code == 200, answer.text
    return [order["id"] for order in answer.json["orders"]]


def place(caller: Caller, count: int, **fields: Any) -> list[str]:
    """Place orders and return their ids, newest first."""
    return sorted((caller.place(**fields)["id"] for _ in range(count)), reverse=True)


def walk(caller: Caller, query: str) -> list[str]:
    """Follow the links of a list to its end."""
    found: list[str] = []
    path = f"/api/orders?{query}"
    while True:
        answer = caller.simulate_get(path)
        assert answer.status_code == 200, answer.text
        found += [order["id"] for order in answer.json["orders"]]
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("Link", ""))
        if not link:
            assert answer.json["next_cursor"] is None
            return found
        path = link[1]


@pytest.mark.parametrize("way", ["limit=4", "page_size=4", "limit=1&sort=-created_at"])
def test_every_way_through_a_list_shows_each_order_once(caller: Caller, way: str) -> None:
    placed = place(caller, 10)
    assert walk(caller, way) == placed


def test_the_oldest_come_first_if_asked_for(caller: Caller) -> None:
    placed = place(caller, 6)
    assert walk(caller, "limit=4&sort=created_at") == placed[::-1]
    assert walk(caller, "page_size=4&sort=created_at") == placed[::-1]


def test_an_order_that_arrives_meanwhile_does_not_shift_a_cursor(caller: Caller) -> None:
    placed = place(caller, 4)
    first = caller.simulate_get("/api/orders?limit=2").json
    place(caller, 3)
    assert ids(caller, f"limit=9&cursor={first['next_cursor']}") == placed[2:]


def test_orders_are_found_by_one_or_many_statuses(caller: Caller) -> None:
    received, processing, cancelled = place(caller, 3)
    caller.command(processing, "reports", {"status": "processing"})
    caller.command(cancelled, "cancel")
    assert ids(caller, "status=processing") == [processing]
    assert ids(caller, "status=processing&status=received") == [received, processing]
    assert ids(caller, "status=lost") == []
    page = caller.simulate_get("/api/orders?status=processing&status=cancelled").json
    assert page["total"] == 2


def test_an_order_is_found_by_its_reference_and_its_tracking_code(caller: Caller) -> None:
    order = caller.place(reference="№ 7/é")
    place(caller, 2)
    code = order["tracking_code"]
    assert re.fullmatch(r"SL-[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]", code)
    assert ids(caller, "reference=" + quote("№ 7/é")) == [order["id"]]
    for typed in (code, code.lower(), code.replace("-", ""), code[3:], code.replace("-", " ")):
        assert ids(caller, "tracking_code=" + quote(typed)) == [order["id"]]
        assert caller.simulate_get("/api/orders/" + quote(typed)).json == order
    assert ids(caller, f"tracking_code={code}&status=lost") == []
    assert ids(caller, "reference=nothing") == []
    assert parse_code(code) is not None


def test_orders_are_found_by_when_they_were_made(caller: Caller) -> None:
    newest, middle, oldest = place(caller, 3)
    at = caller.simulate_get(f"/api/orders/{middle}").json["created_at"]
    assert middle in ids(caller, f"created_after={at}")
    assert oldest not in ids(caller, f"created_after={at}") or at == _made(caller, oldest)
    assert newest not in ids(caller, f"created_before={at}")
    assert ids(caller, "created_after=2100-01-01T00:00:00Z") == []
    assert len(ids(caller, "created_before=2100-01-01T00:00:00%2B02:00")) == 3


def _made(caller: Caller, order: str) -> str:
    return str(caller.simulate_get(f"/api/orders/{order}").json["created_at"])


def test_orders_are_found_by_when_they_changed(caller: Caller) -> None:
    first, second = place(caller, 2)
    changed = caller.command(second, "reports", {"status": "processing"}).json["updated_at"]
    assert ids(caller, f"updated_after={changed}") == [second]
    assert ids(caller, f"updated_before={changed}") == [first]
    assert ids(caller, f"updated_after={changed}&updated_before={changed}") == []


def test_orders_are_found_by_their_metadata(caller: Caller) -> None:
    berlin = caller.place(metadata={"city": "Berlin", "floor": "2"})["id"]
    caller.place(metadata={"city": "Bonn", "floor": "2"})
    caller.place()
    assert ids(caller, "metadata=city=Berlin") == [berlin]
    assert len(ids(caller, "metadata=floor=2")) == 2
    assert ids(caller, "metadata=floor=2&metadata=city=Berlin&limit=5") == [berlin]
    assert ids(caller, "metadata=city=") == []


def test_what_only_adds_to_a_history_is_a_change_too(caller: Caller) -> None:
    first, second = place(caller, 2)
    for status in ("processing", "in_transit"):
        caller.command(first, "reports", {"status": status})
    for name, body in {
        "reports": {"status": "processing"},
        "corrections": {"sequence": 1, "message": "Not here"},
    }.items():
        changed = caller.command(first, name, body).json["updated_at"]
        assert ids(caller, f"updated_after={changed}") == [first]
        assert ids(caller, f"updated_before={changed}") == [second]


@pytest.fixture
def known(caller: Caller) -> list[dict[str, Any]]:
    """Forty orders of all kinds, newest first, among others of another tenant's."""
    choice = random.Random(11)  # noqa: S311 - a choice
    for number in range(40):
        city = choice.choice(["Berlin", "Bonn", "Kiel"])
        order = caller.place(reference=f"PO-{number}", metadata={"city": city})["id"]
        for status in ["processing", "in_transit", "lost"][: choice.randrange(4)]:
            caller.command(order, "reports", {"status": status})
    found = caller.simulate_get("/api/orders?limit=100").json["orders"]
    for order in choice.sample(found, 20):
        caller.command(order["id"], "corrections", {"sequence": 1, "message": "Not here"})
    orders: list[dict[str, Any]] = caller.simulate_get("/api/orders?limit=100").json["orders"]
    return orders


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_filters_show_just_what_fits_however_little_a_list_may_look_at(
    caller: Caller, known: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(listing, "MOST", most)
    monkeypatch.setattr(listing, "MOST_METADATA", most)
    choice = random.Random(most)  # noqa: S311 - a choice
    shown = 0
    for _ in range(25):
        at = {name: choice.choice(known)[name] for name in ("created_at", "updated_at")}
        query = {
            "status": choice.choice(["received", "processing", "in_transit", "lost"]),
            "metadata": "city=" + choice.choice(["Berlin", "Bonn"]),
            "reference": choice.choice(known)["reference"],
            "tracking_code": choice.choice(known)["tracking_code"],
            "created_after": at["created_at"],
            "created_before": choice.choice(known)["created_at"],
            "updated_after": at["updated_at"],
            "updated_before": choice.choice(known)["updated_at"],
        }
        likely = {"reference": 0.03, "tracking_code": 0.03}
        query = {
            name: text for name, text in query.items() if choice.random() < likely.get(name, 0.3)
        }
        fitting = [order["id"] for order in known if fits(order, query)]
        shown += len(fitting)
        for way in ({"limit": "3"}, {"page_size": "3"}):
            assert walk(caller, urlencode(query | way)) == fitting, query
        assert (
            walk(caller, urlencode({**query, "limit": "4", "sort": "created_at"})) == fitting[::-1]
        )
    assert shown > 100


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_lists_of_all_tenants_show_just_what_fits_as_well(
    callers: Callers,
    tracking: Tracking,
    known: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    monkeypatch.setattr(listing, "MOST", most)
    monkeypatch.setattr(listing, "MOST_METADATA", most)
    other = callers.make(tenant="other")
    known += [other.place(metadata={"city": "Berlin"}) for _ in range(10)]
    known.sort(key=lambda order: order["id"], reverse=True)
    choice = random.Random(most)  # noqa: S311 - a choice
    for _ in range(25):
        query = {
            "status": choice.choice(["received", "processing"]),
            "metadata": "city=" + choice.choice(["Berlin", "Bonn"]),
            "created_after": choice.choice(known)["created_at"],
            "updated_after": choice.choice(known)["updated_at"],
            "updated_before": choice.choice(known)["updated_at"],
        }
        query = {name: text for name, text in query.items() if choice.random() < 0.3}
        fitting = [order["id"] for order in known if fits(order, query)]
        assert walk_all(tracking, query) == fitting, query
        assert walk_all(tracking, query | {"sort": "created_at"}) == fitting[::-1], query


def walk_all(tracking: Tracking, query: dict[str, str]) -> list[str]:
    """Follow a list of all tenants' orders to its end."""
    found: list[str] = []
    while True:
        asked = queries.read_list_query(query, tenant_id=None).listing
        page = tracking.list(asked, limit=3)
        found += [str(order.id) for order in page.orders]
        last = page.orders[2].id if len(page.orders) == 3 else page.reach
        if last is None:
            return found
        query = query | {"cursor": queries.make_cursor(last)}


def fits(order: dict[str, Any], query: dict[str, str]) -> bool:
    """Tell whether an order is one that a query asks for."""
    return bool(
        query.get("status", order["status"]) == order["status"]
        and query.get("metadata", "city=" + order["metadata"]["city"]).endswith(
            order["metadata"]["city"]
        )
        and query.get("reference", order["reference"]) == order["reference"]
        and query.get("tracking_code", order["tracking_code"]) == order["tracking_code"]
        and all(
            # As times: at a full second, their text has no fraction to compare.
            (time(text) <= time(order[f"{what}_at"])) == (name == "after")
            for what in ("created", "updated")
            for name in ("after", "before")
            if (text := query.get(f"{what}_{name}"))
        )
    )


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_after_the_last_page_by_number_the_link_goes_on_by_cursor(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_DEPTH", 4)
    placed = place(caller, 9)
    assert "cursor=" in caller.simulate_get("/api/orders?page=2&page_size=2").headers["Link"]
    assert walk(caller, "page_size=2") == placed


WRONG = {
    "status=shipped": "status",
    "status=": "status",
    "status=RECEIVED": "status",
    "sort=status": "sort",
    "limit=0": "limit",
    "limit=101": "limit",
    "limit=1_0": "limit",
    "limit=%D9%A3": "limit",
    "cursor=x": "cursor",
    "cursor=": "cursor",
    "cursor=%00": "cursor",
    "limit=5&page=2": "page",
    "page=1001": "page",
    "page=101&page_size=100": "page",
    "cursor=AAAA&page_size=2": "cursor",
    "created_after=yesterday": "created_after",
    "created_after=2026-01-31": "created_after",
    "created_after=2026-01-31T12:00:00": "created_after",
    "created_before=2026-02-30T12:00:00Z": "created_before",
    "updated_after=2026-01-31T12:00:00+01:00": "updated_after",
    "updated_before=%D9%A2026-01-31T12:00:00Z": "updated_before",
    "updated_before=99999-01-31T12:00:00Z": "updated_before",
    "reference=": "reference",
    "reference=" + "a" * 101: "reference",
    "reference=%00": "reference",
    "tracking_code=SL-0000-0000-0000-1": "tracking_code",
    "tracking_code=": "tracking_code",
    "metadata=city": "metadata",
    "metadata==Berlin": "metadata",
    "metadata=a=%00": "metadata",
    "metadata=a=b&metadata=c=d&metadata=e=f&metadata=g=h&metadata=i=j&metadata=k=l": "metadata",
    "sort=created_at&sort=created_at": "sort",
    "colour=red": "colour",
}


@pytest.mark.parametrize("query", WRONG)
def test_a_filter_that_is_wrong_is_named(caller: Caller, query: str) -> None:
    answer = caller.simulate_get("/api/orders", query_string=query)
    assert answer.status_code == 400, answer.text
    assert WRONG[query] in {fault["field"] for fault in answer.json["errors"]}


def test_a_total_is_counted_no_further_than_ten_thousand(
    caller: Caller, connection: psycopg.Connection
) -> None:
    place(caller, 1)
    connection.execute(
        "INSERT INTO order_statuses (order_id, tenant_id, status)"
        " SELECT gen_random_uuid(), (SELECT id FROM tenants WHERE name = 'shop'), 'lost'"
        "   FROM generate_series(1, 10005)"
    )
    assert caller.simulate_get("/api/orders").json["total"] == 10_000
