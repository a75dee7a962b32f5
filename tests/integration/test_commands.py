"""What callers can do with orders after they were placed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from clients import Caller, Callers

from slimtrack.domain.order import Flow, Status
from slimtrack.use_cases.tracking import Tracking

DELIVERED = ("processing", "in_transit", "out_for_delivery", "delivered")


def report(caller: Caller, order: str, *statuses: str) -> None:
    for status in statuses:
        answer = caller.command(order, "reports", {"status": status})
        assert answer.status_code == 200, answer.text
        assert answer.json["status"] == status


def stages(connection: psycopg.Connection) -> list[tuple[str, int]]:
    query = "SELECT stage, from_sequence FROM outbox ORDER BY id"
    return connection.execute(query).fetchall()


def test_reports_move_an_order_all_the_way(caller: Caller, connection: psycopg.Connection) -> None:
    order = caller.place()
    assert order["flow"] == "reported"
    report(caller, order["id"], *DELIVERED)
    events = caller.events(order["id"])
    assert [(each["sequence"], each["status"]) for each in events] == list(
        enumerate(("received", *DELIVERED), start=1)
    )
    assert [each["attempt"] for each in events] == [None, None, None, 1, 1]
    assert stages(connection) == []


def test_a_report_says_who_where_and_when(caller: Caller) -> None:
    order = caller.place()
    answer = caller.command(
        order["tracking_code"].lower().replace("-", ""),
        "reports",
        {
            "status": "processing",
            "message": " Packed ",
            "location": "Kraków",
            "source": "scanner 12",
            "occurred_at": "2026-01-31T12:00:00+01:00",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"2"'
    event = caller.events(order["id"])[1]
    assert (event["message"], event["location"], event["source"]) == (
        "Packed",
        "Kraków",
        "scanner 12",
    )
    assert event["occurred_at"] == "2026-01-31T11:00:00Z"
    age = datetime.now(UTC) - datetime.fromisoformat(event["recorded_at"])
    assert age < timedelta(minutes=1)


def test_a_report_of_what_is_past_is_kept_and_changes_nothing(caller: Caller) -> None:
    order = caller.place()
    report(caller, order["id"], "processing", "in_transit")
    for late in ("processing", "in_transit"):
        answer = caller.command(order["id"], "reports", {"status": late, "source": "hub"})
        assert answer.status_code == 200
        assert answer.json["status"] == "in_transit"
    assert answer.json["version"] == 5
    assert [(each["kind"], each["status"]) for each in caller.events(order["id"])[3:]] == [
        ("late", "processing"),
        ("late", "in_transit"),
    ]
    report(caller, order["id"], "out_for_delivery")


@pytest.mark.parametrize(
    ("before", "impossible", "allowed"),
    [
        ((), "delivered", ["cancelled", "processing"]),
        (("processing",), "returned", ["cancelled", "in_transit"]),
        (("processing", "in_transit"), "delivery_failed", ["lost", "out_for_delivery"]),
        (DELIVERED, "lost", []),
    ],
)
def test_a_report_of_what_cannot_be_is_a_409_with_what_can(
    caller: Caller, before: Sequence[str], impossible: str, allowed: list[str]
) -> None:
    order = caller.place()
    report(caller, order["id"], *before)
    answer = caller.command(order["id"], "reports", {"status": impossible})
    assert answer.status_code == 409
    assert answer.json["type"] == "urn:slimtrack:problem:transition-not-allowed"
    assert (answer.json["current"], answer.json["allowed"]) == (
        (("received", *before))[-1],
        allowed,
    )
    assert len(caller.events(order["id"])) == 1 + len(before)


def test_the_history_says_why_a_delivery_failed(caller: Caller) -> None:
    order = caller.place()["id"]
    report(caller, order, *DELIVERED[:3])
    body = {"status": "delivery_failed", "attempt": 1, "reason": "Nobody was at home"}
    for _ in range(2):  # the second is late
        assert caller.command(order, "reports", body).status_code == 200
    assert [
        (each["kind"], each["message"], each["reason"], each["attempt"])
        for each in caller.events(order)[4:]
    ] == [
        ("transition", "Delivery failed", "Nobody was at home", 1),
        ("late", "Delivery failed", "Nobody was at home", 1),
    ]


def test_a_long_reason_is_kept_whole(caller: Caller) -> None:
    order, reason = caller.place()["id"], "ä" * 500
    assert caller.command(order, "cancel", {"reason": reason}).status_code == 200
    assert caller.events(order)[-1]["reason"] == reason


def test_what_is_repeated_of_an_attempt_that_is_over_is_late(caller: Caller) -> None:
    order = caller.place()["id"]
    report(caller, order, *DELIVERED[:3], "delivery_failed", "out_for_delivery")
    for status in ("delivery_failed", "out_for_delivery", "delivered"):
        answer = caller.command(order, "reports", {"status": status, "attempt": 1})
        assert (answer.status_code, answer.json["status"]) == (200, "out_for_delivery")
    assert [
        (each["kind"], each["status"], each["attempt"]) for each in caller.events(order)[4:]
    ] == [
        ("transition", "delivery_failed", 1),
        ("transition", "out_for_delivery", 2),
        ("late", "delivery_failed", 1),
        ("late", "out_for_delivery", 1),
        ("late", "delivered", 1),
    ]
    failed = caller.command(order, "reports", {"status": "delivery_failed", "attempt": 2})
    assert (failed.json["status"], failed.json["delivery_attempts"]) == ("delivery_failed", 2)
    # Of the attempt that comes next, not of one that was.
    again = caller.command(order, "reports", {"status": "out_for_delivery", "attempt": 2})
    assert again.json["status"] == "delivery_failed"
    begun = caller.command(order, "reports", {"status": "out_for_delivery", "attempt": 3})
    assert (begun.json["status"], begun.json["delivery_attempts"]) == ("out_for_delivery", 3)
    lost = caller.command(order, "reports", {"status": "lost", "attempt": 3})
    assert lost.json["status"] == "lost"
    assert caller.events(order)[-1]["attempt"] == 3


def test_an_attempt_that_there_has_not_been_is_refused(caller: Caller) -> None:
    order = caller.place()["id"]
    report(caller, order, *DELIVERED[:2])
    for status, attempt in (("in_transit", 1), ("out_for_delivery", 2), ("lost", 1)):
        answer = caller.command(order, "reports", {"status": status, "attempt": attempt})
        assert answer.status_code == 409, status
        assert f"in delivery attempt {attempt}" in answer.json["detail"]
    report(caller, order, "out_for_delivery")
    answer = caller.command(order, "reports", {"status": "delivery_failed", "attempt": 2})
    assert answer.status_code == 409
    assert answer.json["allowed"] == ["delivered", "delivery_failed", "lost"]
    assert len(caller.events(order)) == 4


def test_when_a_report_is_said_to_have_happened_decides_nothing(caller: Caller) -> None:
    order = caller.place()["id"]
    report(caller, order, *DELIVERED[:3])
    early = {"status": "delivery_failed", "occurred_at": "2026-01-31T12:00:00Z"}
    assert caller.command(order, "reports", early).json["status"] == "delivery_failed"


def test_an_order_is_lost_on_its_way_and_then_final(caller: Caller) -> None:
    order = caller.place()["id"]
    early = caller.command(order, "reports", {"status": "lost"})
    assert early.status_code == 409
    assert early.json["type"] == "urn:slimtrack:problem:transition-not-allowed"
    assert (early.json["current"], early.json["allowed"]) == (
        "received",
        ["cancelled", "processing"],
    )
    report(caller, order, "processing", "in_transit")
    lost = caller.command(order, "reports", {"status": "lost", "location": "Kraków hub"})
    assert (lost.status_code, lost.json["status"], lost.json["version"]) == (200, "lost", 4)
    event = caller.events(order)[-1]
    assert (event["kind"], event["status"], event["message"], event["location"]) == (
        "transition",
        "lost",
        "Parcel was lost",
        "Kraków hub",
    )
    assert caller.simulate_get("/api/orders?status=lost").json["orders"][0]["id"] == order
    found = caller.command(order, "reports", {"status": "delivered"})
    assert (found.status_code, found.json["allowed"]) == (409, [])


def test_an_order_is_cancelled_until_it_is_on_its_way(
    caller: Caller, connection: psycopg.Connection
) -> None:
    first, second = caller.place(), caller.place(flow="simulated")
    answer = caller.command(second["id"], "cancel", {"reason": "Changed their mind"})
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    event = caller.events(second["id"])[1]
    assert (event["message"], event["reason"]) == ("Order was cancelled", "Changed their mind")
    assert stages(connection) == [("processing", 1)]  # it will find nothing to do

    report(caller, first["id"], "processing", "in_transit")
    too_late = caller.command(first["id"], "cancel")
    assert too_late.status_code == 409
    assert too_late.json["allowed"] == ["lost", "out_for_delivery"]
    assert caller.command(second["id"], "cancel").status_code == 409


def test_a_stale_version_changes_nothing(caller: Caller) -> None:
    order = caller.place()["id"]
    moved = caller.command(order, "reports", {"status": "processing"}, If_Match='"1"')
    assert moved.status_code == 200
    for name, body in (("cancel", {}), ("reports", {"status": "in_transit"})):
        stale = caller.command(order, name, body, If_Match='"1"')
        assert stale.status_code == 412
        assert stale.json["version"] == 2
    assert caller.command(order, "cancel", {}, If_Match="1").status_code == 400
    assert caller.command(order, "cancel", {}, If_Match=moved.headers["ETag"]).status_code == 200


def test_a_correction_adds_to_the_history_and_changes_no_event(caller: Caller) -> None:
    order = caller.place()["id"]
    report(caller, order, "processing")
    before = caller.events(order)
    answer = caller.command(
        order, "corrections", {"sequence": 2, "message": "Wrong parcel", "source": "Eva"}
    )
    assert (answer.status_code, answer.json["status"], answer.json["version"]) == (
        200,
        "processing",
        3,
    )
    after = caller.events(order)
    assert after[:2] == before
    assert (after[2]["kind"], after[2]["corrects"]) == ("correction", 2)
    unknown = caller.command(order, "corrections", {"sequence": 4, "message": "x"})
    assert (unknown.status_code, unknown.json["errors"][0]["field"]) == (422, "sequence")


def test_a_report_takes_a_simulated_order_further_and_its_stages_go_on_from_there(
    caller: Caller, tracking: Tracking, connection: psycopg.Connection
) -> None:
    order = caller.place(flow="simulated")["id"]
    report(caller, order, "processing")
    assert stages(connection) == [("processing", 1), ("in_transit", 2)]
    for stage, outcome in ((Status.PROCESSING, (1, 0)), (Status.IN_TRANSIT, (1, 1))):
        ids = [
            row[0] for row in connection.execute("SELECT id FROM outbox WHERE stage = %s", [stage])
        ]
        assert tracking.advance(stage, ids) == outcome
    assert [each["status"] for each in caller.events(order)] == [
        "received",
        "processing",
        "in_transit",
    ]


def test_a_failed_delivery_is_repeated_and_after_the_last_attempt_returned(
    caller: Caller, tracking: Tracking, connection: psycopg.Connection
) -> None:
    order = caller.place(flow="simulated")["id"]
    report(caller, order, "processing", "in_transit", "out_for_delivery")
    for attempt in (1, 2, 3):
        connection.execute("DELETE FROM outbox")
        report(caller, order, "delivery_failed")
        [(stage, _)] = stages(connection)
        assert stage == ("returned" if attempt == 3 else "out_for_delivery")
        connection.execute("UPDATE outbox SET available_at = now()")
        ids = [row[0] for row in connection.execute("SELECT id FROM outbox")]
        assert tracking.advance(Status(stage), ids).moved == 1
    events = caller.events(order)
    assert events[-1]["status"] == "returned"
    assert [each["attempt"] for each in events if each["status"] == "delivery_failed"] == [1, 2, 3]


def test_an_order_is_found_by_its_etag(caller: Caller) -> None:
    order = caller.place()["id"]
    path = f"/api/orders/{order}"
    first = caller.simulate_get(path)
    again = caller.simulate_get(path, headers={"If-None-Match": f'"x", W/{first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    report(caller, order, "processing")
    assert (
        caller.simulate_get(path, headers={"If-None-Match": first.headers["ETag"]}).json["version"]
        == 2
    )


def test_200_commands_at_once_on_one_order_are_one_move_and_199_late_reports(
    caller: Caller,
) -> None:
    order = caller.place()["id"]

    def send(_: int) -> int:
        return caller.command(order, "reports", {"status": "processing"}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(200))) <= {200, 503}
    events = caller.events(order)
    assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
    assert [each["kind"] for each in events].count("transition") == 2
    assert len(events) > 100


def test_a_tenants_flow_moves_its_orders_unless_one_says_otherwise(
    callers: Callers, connection: psycopg.Connection
) -> None:
    simulated = callers.make(tenant="demo", flow=Flow.SIMULATED)
    assert simulated.place()["flow"] == "simulated"
    assert simulated.place(flow="reported")["flow"] == "reported"
    assert len(stages(connection)) == 1


def test_a_history_has_an_end_and_the_order_still_arrives(
    caller: Caller, connection: psycopg.Connection
) -> None:
    order = caller.place()["id"]
    for status in ("processing", "in_transit", "out_for_delivery"):
        assert caller.command(order, "reports", {"status": status}).status_code == 200
    connection.execute(
        "INSERT INTO order_events (order_id, sequence, kind, status, message, idempotency_key)"
        " SELECT %(id)s, n, 'late', 'processing', 'x', n FROM generate_series(5, 800) n",
        {"id": order},
    )
    connection.execute("UPDATE orders SET version = 800")
    for name, body in {
        "reports": {"status": "processing"},
        "corrections": {"sequence": 1, "message": "no"},
    }.items():
        answer = caller.command(order, name, body)
        assert answer.status_code == 409
        assert answer.json["type"] == "urn:slimtrack:problem:history-full"
    assert caller.command(order, "reports", {"status": "delivered"}).json["version"] == 801
