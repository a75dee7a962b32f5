"""The list of orders, and the search among them."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode
from uuid import UUID

import falcon

from slimtrack.domain.errors import OrderNotFoundError
from slimtrack.domain.listing import Found
from slimtrack.domain.order import Order, Status
from slimtrack.http import queries
from slimtrack.http.dashboard.door import ORDERS, Door
from slimtrack.http.dashboard.live_page import LivePage
from slimtrack.http.dashboard.order import OrderChange, OrderPage
from slimtrack.http.dashboard.order_changes import CHANGES, with_zone
from slimtrack.http.dashboard.page import Page, render, tenant_of
from slimtrack.http.live import Broadcaster
from slimtrack.http.problems import Problem
from slimtrack.use_cases.tracking import Tracking

_PAGE_SIZE: Final = 25
_TIMES: Final = ("created_after", "created_before", "updated_after", "updated_before")
#: What a list may ask for; all but the search goes by the names that the API has.
_PARAMETERS: Final = ("q", "status", *_TIMES, "cursor")


class OrdersPage(Page):
    """`/dashboard/orders`: the newest first, or those that fit a search."""

    system: ClassVar[bool] = False

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show a page of them; an id or a tracking code leads to its order."""
        asked = _asked_in(req)
        tenant_id = tenant_of(req)
        order = self._find(str(asked.get("q", "")), tenant_id=tenant_id)
        if order:
            raise falcon.HTTPSeeOther(f"{ORDERS}/{order.id}")
        faults: dict[str, str] = {}
        found = Found([], None)
        try:
            found = self._list(asked, tenant_id=tenant_id)
        except Problem as problem:
            resp.status = problem.status
            faults = {fault["field"]: fault["message"] for fault in problem.members["errors"]}
        orders = found.orders[:_PAGE_SIZE]
        last = orders[-1].id if len(found.orders) > _PAGE_SIZE else found.reach
        # Those who see the orders of all tenants are told whose each is.
        owners = self._tracking.owners([each.id for each in orders]) if tenant_id is None else None
        from_start = {name: text for name, text in asked.items() if name != "cursor"}
        render(
            req,
            resp,
            "orders/list.html",
            asked=asked,
            faults=faults,
            orders=orders,
            owners=owners,
            times=_TIMES,
            statuses=Status,
            first=_link(from_start) if from_start != asked else None,
            following=_link({**asked, "cursor": queries.make_cursor(last)}) if last else None,
        )

    def _find(self, text: str, *, tenant_id: int | None) -> Order | None:
        """Return the order that a text is the id or the tracking code of; None for other texts."""
        try:
            return self._tracking.get(queries.read_order(text), tenant_id=tenant_id)
        except (Problem, OrderNotFoundError):
            return None  # it may be a reference

    def _list(self, asked: Mapping[str, str | list[str]], *, tenant_id: int | None) -> Found:
        parameters = {"reference" if name == "q" else name: text for name, text in asked.items()}
        for name in _TIMES:
            if name in parameters:
                parameters[name] = with_zone(str(parameters[name]))
        listing, _ = queries.read_list_query(parameters, tenant_id=tenant_id)
        return self._tracking.list(listing, limit=_PAGE_SIZE + 1)


class OrderTopic:
    """What those are sent who watch an order: something else whenever there is more to tell."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Look once, at all orders that are watched."""
        revisions = self._tracking.revisions(list(map(UUID, keys)))
        return {str(order_id): revision for order_id, revision in revisions.items()}


class LiveOrder(LivePage):
    """`/dashboard/live/order`: one order, for those who may see it."""

    system: ClassVar[bool] = False


def add_orders(
    app: falcon.App[Any, Any],
    door: Door,
    *,
    tracking: Tracking,
    broadcaster: Broadcaster,
    has_tracking_page: bool,
) -> None:
    """Add the pages, and what they ask for."""

    def key_of(req: falcon.Request) -> str:
        wanted = queries.read_order(req.get_param("id") or "")
        return str(tracking.get(wanted, tenant_id=tenant_of(req)).id)

    page = OrdersPage(tracking)
    door.list_page("orders", ORDERS, page)
    app.add_route(ORDERS, page)
    app.add_route(f"{ORDERS}/{{order}}", OrderPage(tracking, has_tracking_page=has_tracking_page))
    for name in CHANGES:
        change = OrderChange(tracking, name, has_tracking_page=has_tracking_page)
        app.add_route(f"{ORDERS}/{{order}}/{name}", change)
    live = LiveOrder(broadcaster, door, topic=OrderTopic(tracking), key=key_of)
    app.add_route("/dashboard/live/order", live)


def _asked_in(req: falcon.Request) -> dict[str, str | list[str]]:
    """Return what a list is asked for, without the fields that were left empty."""
    asked: dict[str, str | list[str]] = {}
    for name in _PARAMETERS:
        texts = [text.strip() for text in req.get_param_as_list(name) or () if text.strip()]
        if texts:
            asked[name] = texts if name == "status" else texts[-1]
    return asked


def _link(asked: Mapping[str, str | list[str]]) -> str:
    return f"{ORDERS}?{urlencode(asked, doseq=True)}"
