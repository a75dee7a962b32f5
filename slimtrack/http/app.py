"""Puts the resources together into a WSGI app."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import falcon
import falcon.media
import msgspec

from slimtrack.http import middleware, problems
from slimtrack.http.auth import Authentication, Open, RateLimiting
from slimtrack.http.bulk import OrderBulk
from slimtrack.http.flow import FlowDocument
from slimtrack.http.health import LivenessProbe, ReadinessProbe
from slimtrack.http.openapi.document import OpenApiDocument
from slimtrack.http.openapi.pages import Documentation
from slimtrack.http.orders import (
    OrderCancellation,
    OrderCollection,
    OrderCorrections,
    OrderHistory,
    OrderItem,
    OrderReports,
    OrderTimeline,
)
from slimtrack.http.pages.assets import Assets
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.use_cases.tracking import Tracking

#: Adds pages for people to an app.
AddPages = Callable[[falcon.App[Any, Any]], None]


def create_app(
    *,
    tracking: Tracking,
    cache: HistoryCache,
    authentication: Authentication | Open,
    rate_limiting: RateLimiting | None = None,
    dependencies: Mapping[str, Callable[[], bool]],
    required: Collection[str],
    who_works: Callable[[], Mapping[str, bool | None]] = dict,
    measured: bool = False,
    add_pages: Sequence[AddPages] = (),
) -> falcon.App[Any, Any]:
    """Build the WSGI app.

    Args:
        tracking: the use cases.
        cache: keeps the histories of orders.
        authentication: who may use them.
        rate_limiting: how often; None for as often as they like.
        dependencies: by name, whether a server answers; quick, and never raises.
        required: names of the dependencies without which the app is not ready.
        who_works: by name, whether such a process works, None where that is not known; as quick.
        measured: whether anybody wants to know how many requests there are, and how long they take.
        add_pages: each adds pages for people.
    """
    app = falcon.App()
    encoder = falcon.media.JSONHandler(dumps=msgspec.json.encode, loads=msgspec.json.decode)
    app.resp_options.media_handlers = falcon.media.Handlers(
        {falcon.MEDIA_JSON: encoder, problems.MEDIA_TYPE: encoder}
    )
    middleware.install(
        app, authentication=authentication, rate_limiting=rate_limiting, measured=measured
    )
    problems.install(app)
    app.add_route("/api/flow", FlowDocument())
    app.add_route("/api/orders", OrderCollection(tracking))
    app.add_route("/api/orders/bulk", OrderBulk(tracking))
    app.add_route("/api/orders/{order}", OrderItem(tracking))
    app.add_route("/api/orders/{order}/cancel", OrderCancellation(tracking))
    app.add_route("/api/orders/{order}/corrections", OrderCorrections(tracking))
    app.add_route("/api/orders/{order}/events", OrderHistory(tracking, cache=cache))
    app.add_route("/api/orders/{order}/reports", OrderReports(tracking))
    app.add_route("/api/orders/{order}/timeline", OrderTimeline(tracking))
    app.add_route("/docs", Documentation())
    app.add_route("/openapi.json", OpenApiDocument())
    app.add_route("/health/live", LivenessProbe())
    app.add_route(
        "/health/ready", ReadinessProbe(dependencies, required=required, who_works=who_works)
    )
    if add_pages:
        app.add_route("/assets/{digest}/{name}", Assets())
    for add in add_pages:
        add(app)
    return app
