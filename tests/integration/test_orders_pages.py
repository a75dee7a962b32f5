"""The pages of orders: who sees which, how they are found, what can be done."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import falcon
import pytest
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.domain.access import Scope
from slimtrack.domain.order import Flow, NewOrder, Order, Status, new_order_id
from slimtrack.domain.report import Report
from slimtrack.http.answers import answer_with_order
from slimtrack.http.dashboard.orders import OrderTopic
from slimtrack.settings import Settings
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.changing import Target
from slimtrack.use_cases.tracking import Tracking

ORDERS = "/dashboard/orders"


@pytest.fixture
def app(tracking: Tracking, settings: Settings, pool: ConnectionPool) -> falcon.App[Any, Any]:
    return dashboard_app(settings, pool, tracking)


@pytest.fixture
def visit(app: falcon.App[Any, Any], pool: ConnectionPool) -> Callable[..., Visitor]:
    """Makes visitors who have signed in."""
    access = Access(pool)

    def make(*scopes: Scope, tenant: str = "default", language: str = "en") -> Visitor:
        if tenant not in {each.name for each in access.list_tenants()}:
            access.create_tenant(tenant, flow=Flow.REPORTED)
        visitor = Visitor(app, language=language)
        token = access.create_key(tenant=tenant, name="test", scopes=scopes)
        assert visitor.sign_in(token).status_code == 303
        return visitor

    return make


@pytest.fixture
def operator(visit: Callable[..., Visitor]) -> Visitor:
    return visit(Scope.OPERATOR)


@pytest.fixture
def place(tracking: Tracking, pool: ConnectionPool) -> Callable[..., Order]:
    tenants = {each.name: each.id for each in Access(pool).list_tenants()}

    def make(*, tenant: str = "default", **fields: Any) -> Order:
        tenants.update((each.name, each.id) for each in Access(pool).list_tenants())
        given = {"description": "Two boxes", "flow": Flow.REPORTED, **fields}
        return tracking.place(NewOrder(id=new_order_id(), tenant_id=tenants[tenant], **given))

    return make


def shown(visitor: Visitor, query: str = "") -> list[str]:
    """Return the ids of the orders on a page of the list."""
    page = visitor.get(f"{ORDERS}{query}")
    assert page.status_code == 200, page.text
    return re.findall(rf'class="mono code" href="{ORDERS}/([-0-9a-f]+)"', page.text)


def ids(*orders: Order) -> list[str]:
    return [str(order.id) for order in orders]


def test_who_runs_the_system_sees_the_orders_of_all_tenants_and_others_see_their_own(
    visit: Callable[..., Visitor], operator: Visitor, place: Callable[..., Order]
) -> None:
    shop, other = (visit(Scope.ORDERS_READ, tenant=name) for name in ("shop", "other"))
    ours, theirs = place(), place(tenant="shop", reference="S-1")

    assert sorted(shown(operator)) == sorted(ids(ours, theirs))
    assert shown(shop) == ids(theirs)
    assert shown(other) == []
    assert shown(operator, "?q=S-1") == ids(theirs)
    assert shown(other, "?q=S-1") == []
    for visitor, order, status in (
        (operator, theirs, 200),
        (shop, theirs, 200),
        (shop, ours, 404),
        (other, theirs, 404),
    ):
        assert visitor.get(f"{ORDERS}/{order.id}").status_code == status
        stream = visitor.get(f"/dashboard/live/order?id={order.id}", Accept="text/event-stream")
        assert stream.status_code == status
    assert visit(Scope.ORDERS_READ, tenant="shop").get("/dashboard").headers["location"] == ORDERS


def test_a_search_knows_an_id_a_tracking_code_and_a_reference(
    operator: Visitor, place: Callable[..., Order]
) -> None:
    order = place(reference="№ 7")
    place()
    for typed in (str(order.id), order.tracking_code, order.tracking_code.lower()[3:]):
        found = operator.get(f"{ORDERS}?q=+{typed}+")
        assert (found.status_code, found.headers["location"]) == (303, f"{ORDERS}/{order.id}")
    assert shown(operator, "?q=%E2%84%96+7") == ids(order)
    nothing = operator.get(f"{ORDERS}?q={order.tracking_code[:-1]}")
    assert "No order fits" in nothing.text


def test_a_list_is_narrowed_by_statuses_and_times_and_walked_page_by_page(
    operator: Visitor, place: Callable[..., Order], tracking: Tracking
) -> None:
    orders = sorted((place() for _ in range(30)), key=lambda order: order.id, reverse=True)
    lost = orders[7]
    for status in (Status.PROCESSING, Status.IN_TRANSIT, Status.LOST):
        report(tracking, lost, status)

    assert shown(operator, "?status=lost&status=delivered&q=&created_after=") == ids(lost)
    assert shown(operator, "?created_before=2020-01-01T00:00") == []
    assert len(shown(operator, "?created_after=2020-01-01T00:00:00.000Z")) == 25
    first = operator.get(ORDERS)
    following = unescape(re.findall(r'rel="next" href="([^"]*)"', first.text)[0])
    assert shown(operator) + shown(operator, following.removeprefix(ORDERS)) == ids(*orders)
    assert 'rel="next"' not in operator.get(following).text
    changed = tracking.get(lost.id).updated_at.isoformat().replace("+00:00", "Z")
    assert shown(operator, f"?updated_after={changed}") == ids(lost)
    assert str(lost.id) not in shown(operator, f"?updated_before={changed}")
    assert "Last changed from" in first.text


def test_whose_an_order_is_is_told_to_those_who_see_all(
    visit: Callable[..., Visitor], operator: Visitor, place: Callable[..., Order]
) -> None:
    shop = visit(Scope.ORDERS_READ, tenant="shop & co")
    order = place(tenant="shop & co")
    for path in (ORDERS, f"{ORDERS}/{order.id}"):
        assert "shop &amp; co" in operator.get(path).text
        assert "shop &amp; co" not in shop.get(path).text


@pytest.mark.parametrize("is_on", [True, False])
def test_an_order_leads_to_the_page_of_its_receiver_where_there_is_one(
    settings: Settings,
    pool: ConnectionPool,
    tracking: Tracking,
    operator: Visitor,
    place: Callable[..., Order],
    *,
    is_on: bool,
) -> None:
    visitor = operator.at(dashboard_app(settings, pool, tracking, tracking_page=is_on))
    order = place()
    link = f'<a href="/t/{order.tracking_code}">'
    assert (link in visitor.get(f"{ORDERS}/{order.id}").text) == is_on
    assert visitor.get(f"/t/{order.tracking_code}").status_code == (200 if is_on else 404)


@pytest.mark.parametrize(
    "query",
    ["created_after=soon", "status=gone", "cursor=x", "q=" + 101 * "x", "q=%00"],
)
def test_what_no_list_can_be_asked_for_is_said_beside_its_field(
    operator: Visitor, query: str
) -> None:
    page = operator.get(f"{ORDERS}?{query}")
    assert page.status_code == 400
    assert 'class="fault"' in page.text


def test_of_very_many_events_the_first_and_the_latest_are_listed(
    operator: Visitor, place: Callable[..., Order], pool: ConnectionPool
) -> None:
    order = place()
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO order_events (order_id, sequence, status, message, kind, corrects,"
            " idempotency_key) SELECT id, n, 'received', 'Remark ' || n || '.', 'correction', 1,"
            " id || ':' || n FROM orders, generate_series(2, 301) AS n WHERE id = %s",
            (order.id,),
        )
    page, raw = operator.get(f"{ORDERS}/{order.id}").text.split('<details id="raw">')
    for number, listed in ((20, True), (21, False), (121, False), (122, True), (301, True)):
        assert (f"Remark {number}." in page.partition('<details id="events">')[2]) == listed
        assert f"Remark {number}." in raw
    assert page.count("are not shown here") == 2  # of the timeline, and of the events
    assert "101 between the first ones and the latest" in page


def report(tracking: Tracking, order: Order, status: Status) -> None:
    target = Target(order=order.id, tenant_id=None)
    tracking.execute(
        lambda changes: answer_with_order(changes.report(target, Report(status=status)))
    )


def test_an_order_tells_all_that_happened_to_it(
    visit: Callable[..., Visitor], place: Callable[..., Order], tracking: Tracking
) -> None:
    order = place(tenant="default", description="<b>Vase</b>", metadata={"city": "<i>", "n": [1]})
    report(tracking, order, Status.PROCESSING)

    page = visit(Scope.ORDERS_READ, language="pt").get(f"{ORDERS}/{order.tracking_code}")

    assert page.status_code == 200
    assert "&lt;b&gt;Vase&lt;/b&gt;" in page.text
    assert "<b>Vase" not in page.text
    assert "<i>" not in page.text
    assert 'aria-current="step"' in page.text
    assert "Em preparação" in page.text
    assert '<form method="post" action="/dashboard/orders' not in page.text


def recorded(pool: ConnectionPool) -> list[Any]:
    with pool.connection() as connection:
        found = connection.execute(
            "SELECT action, selection, reason FROM operator_actions"
            " WHERE operator LIKE 'key %' AND affected = 1 ORDER BY id"
        )
        return found.fetchall()


def test_an_order_is_reported_on_corrected_and_cancelled_and_that_is_recorded(
    operator: Visitor, place: Callable[..., Order], tracking: Tracking, pool: ConnectionPool
) -> None:
    order = place()
    page = f"{ORDERS}/{order.id}"
    operator.get(page)
    fields = {"status": "processing", "message": "Packed", "location": "Kraków", "source": "Ana"}
    times = {"occurred_at": "2026-01-31T12:00", "attempt": ""}
    for change, given in {
        "report": fields | times,
        "correct": {"sequence": "2", "message": "Not packed"},
        "cancel": {"reason": "Wrong house"},
    }.items():
        version = tracking.get(order.id).version
        done = operator.post(f"{page}/{change}", version=version, **given)
        assert (done.status_code, done.headers["location"]) == (303, f"{page}?done={change}")
        assert 'class="notice good"' in operator.get(done.headers["location"]).text

    reported, corrected, cancelled = tracking.history(order.id)[1:]
    assert (reported.location, reported.source, reported.message) == ("Kraków", "Ana", "Packed")
    assert reported.occurred_at.isoformat() == "2026-01-31T12:00:00+00:00"
    assert (corrected.corrects, corrected.message) == (2, "Not packed")
    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, "Wrong house")
    assert f'action="{page}/cancel"' not in operator.get(page).text
    assert recorded(pool) == [
        ("report", {"order_id": str(order.id), "event": 2}, "Packed"),
        ("correct", {"order_id": str(order.id), "event": 3}, "Not packed"),
        ("cancel", {"order_id": str(order.id), "event": 4}, "Wrong house"),
    ]
    assert f'href="{page}"' in operator.get("/dashboard/actions").text


def test_a_change_that_cannot_be_is_refused_beside_what_was_given(
    operator: Visitor, place: Callable[..., Order], tracking: Tracking, pool: ConnectionPool
) -> None:
    order = place()
    page = f"{ORDERS}/{order.id}"
    operator.get(page)
    for change, given, status, fault in (
        ("report", {"status": "delivered", "message": "At <door>"}, 409, "cannot become"),
        ("report", {"status": "gone"}, 422, 'id="report-status-fault"'),
        ("report", {"status": "processing", "attempt": "one"}, 422, 'id="report-attempt-fault"'),
        ("report", {"status": "processing", "occurred_at": "x"}, 422, "occurred_at-fault"),
        ("correct", {"sequence": "9", "message": "No"}, 422, 'id="correct-sequence-fault"'),
        ("correct", {"sequence": "1", "message": ""}, 422, 'id="correct-message-fault"'),
        ("cancel", {"reason": 501 * "x"}, 422, 'id="cancel-reason-fault"'),
        ("cancel", {"version": "7"}, 412, "has changed"),
    ):
        refused = operator.post(f"{page}/{change}", **{"version": "1", **given})
        assert (refused.status_code, fault in refused.text) == (status, True), refused.text
        assert f'<details id="{change}" open>' in refused.text
    assert (
        "At &lt;door&gt;"
        in operator.post(
            f"{page}/report", version="1", status="delivered", message="At <door>"
        ).text
    )
    assert operator.get(f"{page}/cancel").headers["location"] == page
    assert tracking.get(order.id).version == 1
    assert recorded(pool) == []


@pytest.mark.parametrize("change", ["report", "correct", "cancel"])
def test_only_those_change_an_order_who_may(
    visit: Callable[..., Visitor],
    place: Callable[..., Order],
    tracking: Tracking,
    change: str,
) -> None:
    needed = {"report": Scope.REPORTS_WRITE, "cancel": Scope.ORDERS_WRITE}.get(
        change, Scope.OPERATOR
    )
    others = [scope for scope in Scope if scope not in {needed, Scope.OPERATOR}]
    given = {"status": "processing", "sequence": "1", "message": "So", "version": "1"}
    shop = visit(Scope.ORDERS_READ, needed, tenant="shop")
    ours, theirs = place(), place(tenant="shop")
    for visitor, order, status in (
        (visit(Scope.ORDERS_READ), ours, 403),
        (visit(*(set(Scope) - {Scope.OPERATOR})), ours, 403),
        (visit(Scope.ORDERS_READ, *others, tenant="shop"), theirs, 403),
        (shop, ours, 404),
    ):
        page = visitor.get(f"{ORDERS}/{order.id}")
        assert f"/{change}" not in page.text
        refused = visitor.post(f"{ORDERS}/{order.id}/{change}", **given)
        assert refused.status_code == status, refused.text
        assert tracking.get(order.id).version == 1
    shop.get(f"{ORDERS}/{theirs.id}")
    assert shop.send(f"{ORDERS}/{theirs.id}/{change}", given).status_code == 403
    assert shop.post(f"{ORDERS}/{theirs.id}/{change}", **given).status_code == 303


def test_whoever_watches_an_order_hears_of_whatever_happens_to_it(
    place: Callable[..., Order], tracking: Tracking, pool: ConnectionPool
) -> None:
    order, other = place(), place()
    topic = OrderTopic(tracking)
    keys = frozenset(ids(order, other)) | {str(new_order_id())}
    seen = [topic.read(keys)]
    assert seen[0].keys() == set(ids(order, other))

    report(tracking, order, Status.PROCESSING)
    seen.append(topic.read(keys))
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO order_incidents (order_id, number, kind, stage, from_sequence)"
            " VALUES (%s, 1, 'delayed', 'in_transit', 2)",
            (order.id,),
        )
        seen.append(topic.read(keys))
        connection.execute("UPDATE order_incidents SET repeats = 1, repeated_at = now()")
    seen.append(topic.read(keys))

    assert len({look[str(order.id)] for look in seen}) == 4
    assert len({look[str(other.id)] for look in seen}) == 1
