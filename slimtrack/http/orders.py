"""The resources of orders."""

import falcon

from slimtrack.http import schemas
from slimtrack.http.body import read_json
from slimtrack.tracking import Tracking


class OrderCollection:
    """`/api/orders`."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Place an order."""
        new = schemas.read_new_order(read_json(req), correlation_id=req.context.correlation_id)
        order = self._tracking.place(new)
        resp.status = falcon.HTTP_CREATED
        resp.location = f"/api/orders/{order.id}"
        resp.media = order

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List orders, newest first."""
        page, page_size = schemas.read_page(req.params)
        resp.media = self._tracking.list(page=page, page_size=page_size)


class OrderItem:
    """`/api/orders/{order_id}`."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_get(self, _req: falcon.Request, resp: falcon.Response, order_id: str) -> None:
        """Return one order."""
        resp.media = self._tracking.get(schemas.read_order_id(order_id))


class OrderHistory:
    """`/api/orders/{order_id}/events`."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def on_get(self, _req: falcon.Request, resp: falcon.Response, order_id: str) -> None:
        """Return the events of one order, oldest first."""
        found = schemas.read_order_id(order_id)
        resp.media = schemas.History(found, self._tracking.history(found))
