"""The resources of orders."""

from functools import partial
from typing import ClassVar, Final
from uuid import UUID

import falcon
import msgspec

from slimtrack.domain.access import Scope
from slimtrack.domain.errors import ReferenceTakenError
from slimtrack.domain.idempotency import Answer
from slimtrack.domain.order import NewOrder, Order
from slimtrack.http import answers, queries, schemas
from slimtrack.http.auth import Scopes
from slimtrack.http.body import read_body
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking

#: Orders are counted up to this number: to count a million takes longer than to show some.
_COUNTED: Final = 10_000


class OrderCollection:
    """`/api/orders`."""

    scopes: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ, "POST": Scope.ORDERS_WRITE}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Place an order."""
        body = read_body(req)
        new = schemas.read_new_order(
            body, correlation_id=req.context.correlation_id, principal=req.context.principal
        )
        answers.execute(self._tracking, req, resp, partial(_place, new=new), body=body)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List orders, newest first."""
        tenant_id = req.context.principal.tenant_id
        listing, page = queries.read_list_query(req.params, tenant_id=tenant_id)
        number, size = page
        found = self._tracking.list(listing, limit=size + 1, offset=((number or 1) - 1) * size)
        orders = found.orders[:size]
        last = orders[-1].id if len(found.orders) > size else found.reach
        cursor = queries.make_cursor(last) if last else None
        total = (
            self._tracking.count(listing, limit=_COUNTED) if number and listing.is_plain else None
        )
        resp.media = schemas.OrderPage(orders, number, size, total, cursor)
        if cursor:
            by_number = found.reach is None
            link = queries.link_to_next(req, page, cursor=cursor, by_number=by_number)
            resp.set_header("Link", link)


class OrderItem:
    """`/api/orders/{order}`."""

    scopes: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_get(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Return one order."""
        found = self._tracking.get(
            queries.read_order(order), tenant_id=req.context.principal.tenant_id
        )
        etag = queries.etag_of(found.version)
        resp.set_header("ETag", etag)
        resp.set_header("Cache-Control", "private, no-cache")
        if queries.matches(req, etag):
            resp.status = falcon.HTTP_NOT_MODIFIED
        else:
            resp.media = found


class OrderHistory:
    """`/api/orders/{order}/events`."""

    scopes: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ}

    def __init__(self, tracking: Tracking, *, cache: HistoryCache) -> None:
        self._tracking = tracking
        self._cache = cache

    def on_get(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Return the events of one order, oldest first."""
        wanted = queries.read_order(order)
        tenant_id = req.context.principal.tenant_id
        if isinstance(wanted, int):
            wanted = self._tracking.get(wanted, tenant_id=tenant_id).id
        version = self._tracking.version(wanted, tenant_id=tenant_id)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._cache.get(wanted, version=version) or self._read(
            wanted, tenant_id=tenant_id
        )

    def _read(self, order_id: UUID, *, tenant_id: int) -> bytes:
        events = self._tracking.history(order_id, tenant_id=tenant_id)
        history = msgspec.json.encode(schemas.History(order_id, events))
        # It may have grown since its version was read.
        self._cache.put(order_id, version=events[-1].sequence, history=history)
        return history


class OrderTimeline:
    """`/api/orders/{order}/timeline`."""

    scopes: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_get(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Return all that happened to one order, each after what caused it."""
        principal = req.context.principal
        told = self._tracking.timeline(queries.read_order(order), tenant_id=principal.tenant_id)
        sees_all = Scope.OPERATOR in principal.scopes
        resp.media = told if sees_all else told.without_internals()


class OrderCancellation:
    """`/api/orders/{order}/cancel`."""

    scopes: ClassVar[Scopes] = {"POST": Scope.ORDERS_WRITE}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Cancel an order that is not on its way yet."""
        target = _target_of(req, order)
        body = read_body(req) if req.content_type else read_body(req, media_types=("",))
        reason = schemas.read_cancellation(body)

        def cancel(changes: Changes) -> Answer:
            return answers.answer_with_order(changes.cancel(target, reason=reason))

        answers.execute(self._tracking, req, resp, cancel, body=body)


class OrderReports:
    """`/api/orders/{order}/reports`."""

    scopes: ClassVar[Scopes] = {"POST": Scope.REPORTS_WRITE}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Record what a scanner or a courier says happened to the parcel."""
        target = _target_of(req, order)
        body = read_body(req)
        report = schemas.read_report(body)

        def record(changes: Changes) -> Answer:
            return answers.answer_with_order(changes.report(target, report))

        answers.execute(self._tracking, req, resp, record, body=body)


class OrderCorrections:
    """`/api/orders/{order}/corrections`."""

    scopes: ClassVar[Scopes] = {"POST": Scope.OPERATOR}

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Record that an earlier event was wrong."""
        target = _target_of(req, order)
        body = read_body(req)
        sequence, message, source = schemas.read_correction(body)

        def correct(changes: Changes) -> Answer:
            return answers.answer_with_order(
                changes.correct(target, sequence=sequence, message=message, source=source)
            )

        answers.execute(self._tracking, req, resp, correct, body=body)


def _place(changes: Changes, *, new: NewOrder) -> Answer:
    placed = changes.place(new)
    if isinstance(placed, UUID):
        raise ReferenceTakenError(reference=new.reference or "", order_id=placed)
    return answers.answer_with(placed, status=201, headers=_headers_of(placed))


def _headers_of(order: Order) -> dict[str, str]:
    return {"Location": f"/api/orders/{order.id}", "ETag": queries.etag_of(order.version)}


def _target_of(req: falcon.Request, order: str) -> Target:
    return Target(
        order=queries.read_order(order),
        tenant_id=req.context.principal.tenant_id,
        version=queries.read_version(req),
        correlation_id=req.context.correlation_id,
    )
