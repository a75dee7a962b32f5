"""`/t/{code}`: where a parcel is, for whoever has its tracking code."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

import falcon

from slimtrack.domain.errors import OrderNotFoundError
from slimtrack.domain.following import Followed
from slimtrack.domain.order import FINAL, WAY, Status
from slimtrack.domain.tracking_code import format_code, parse_code
from slimtrack.http import queries
from slimtrack.http.auth import PUBLIC
from slimtrack.http.live import MEDIA_TYPE, Broadcaster
from slimtrack.http.pages import rendering
from slimtrack.http.tracking_page.visitors import Visitors
from slimtrack.use_cases.following import Following

PACKAGE: Final = "slimtrack.http.tracking_page"

T = TypeVar("T")


class Search:
    """`/t`: a form for a code."""

    scopes = PUBLIC
    media_types = (falcon.MEDIA_HTML,)

    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show it; lead to the page of a code that was entered."""
        _begin(req, resp)
        self._visitors.count(req)
        code = (req.get_param("code") or "").strip()
        if not code:
            _render(req, resp, "search.html")
            return
        number = parse_code(code)
        if number is None:
            _show_nothing(req, resp)
            return
        raise falcon.HTTPSeeOther(f"/t/{quote(format_code(number))}")


class Parcel:
    """`/t/{code}`."""

    scopes = PUBLIC
    media_types = (falcon.MEDIA_HTML,)

    def __init__(self, following: Following, visitors: Visitors) -> None:
        self._following = following
        self._visitors = visitors

    def on_get(self, req: falcon.Request, resp: falcon.Response, code: str) -> None:
        """Show where the parcel is; nothing to whoever has seen it as it is."""
        _begin(req, resp)
        self._visitors.count(req)
        found = _find(req, resp, code, self._following.follow)
        if not found:
            return
        followed, expected = found
        _render(
            req,
            resp,
            "parcel.html",
            parcel=followed,
            expected=expected,
            steps=_steps_of(followed),
            is_final=followed.status in FINAL,
        )
        # Of all that is shown: other words or another script make another page as well.
        etag = f'"{hashlib.sha256((resp.text or "").encode()).hexdigest()[:16]}"'
        resp.set_header("ETag", etag)
        resp.set_header("Cache-Control", "private, no-cache")
        if queries.matches(req, etag):
            resp.text = None
            resp.delete_header("Content-Type")
            resp.status = falcon.HTTP_NOT_MODIFIED


class ParcelStream:
    """`/t/{code}/live`: the version of the order, whenever it is another."""

    scopes = PUBLIC
    media_types = (MEDIA_TYPE,)

    def __init__(self, following: Following, broadcaster: Broadcaster, visitors: Visitors) -> None:
        self._following = following
        self._topic = ParcelTopic(following)
        self._broadcaster = broadcaster
        self._visitors = visitors

    def on_get(self, req: falcon.Request, resp: falcon.Response, code: str) -> None:
        """Tell it."""
        _begin(req, resp)
        self._visitors.count(req)
        order_id = _find(req, resp, code, self._following.find_id)
        if not order_id:
            return
        owner = self._visitors.asker_of(req)
        self._broadcaster.attach(req, resp, topic=self._topic, owner=owner, key=str(order_id))


class ParcelTopic:
    """What those are sent who watch a parcel."""

    def __init__(self, following: Following) -> None:
        self._following = following

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Look once, at all orders that are watched."""
        versions = self._following.versions(list(map(UUID, keys)))
        return {str(order_id): version for order_id, version in versions.items()}


def add_tracking_page(
    app: falcon.App[Any, Any],
    *,
    following: Following,
    broadcaster: Broadcaster,
    visitors: Visitors,
) -> None:
    """Add the pages to an app."""
    app.add_route("/t", Search(visitors))
    app.add_route("/t/{code}", Parcel(following, visitors))
    app.add_route("/t/{code}/live", ParcelStream(following, broadcaster, visitors))


def _begin(req: falcon.Request, resp: falcon.Response) -> None:
    """Have problems shown as pages, and no search engine told of anything."""
    req.context.show_problem = _show_problem
    resp.set_header("X-Robots-Tag", "noindex")


def _find(
    req: falcon.Request, resp: falcon.Response, code: str, ask: Callable[[int], T]
) -> T | None:
    """Return what there is of a code; None where nothing is, which has been answered then."""
    number = parse_code(code)
    if number is not None:
        with suppress(OrderNotFoundError):
            return ask(number)
    _show_nothing(req, resp)
    return None


def _show_nothing(req: falcon.Request, resp: falcon.Response) -> None:
    """Answer alike, whatever is wrong with a code."""
    resp.status = falcon.HTTP_NOT_FOUND
    _render(req, resp, "problem.html", kind="unknown")


def _show_problem(req: falcon.Request, resp: falcon.Response, document: Mapping[str, Any]) -> None:
    _render(req, resp, "problem.html", kind="busy" if document["status"] == 429 else "away")


def _render(req: falcon.Request, resp: falcon.Response, template: str, **values: Any) -> None:
    rendering.render(req, resp, PACKAGE, template, **values)


def _steps_of(followed: Followed) -> list[tuple[Status, str]]:
    """Return the line of steps: each with whether it is done, current, ahead, or the bad end."""
    status = followed.status
    if status is Status.DELIVERED:
        return [(each, "done") for each in WAY]
    if status in WAY:
        here = WAY.index(status)
        return [
            *((each, "done") for each in WAY[:here]),
            (status, "current"),
            *((each, "ahead") for each in WAY[here + 1 :]),
        ]
    been = {each.status for each in followed.passed}
    done = [(each, "done") for each in WAY if each in been]
    if status is Status.DELIVERY_FAILED:
        return [*done, (status, "trouble"), (Status.DELIVERED, "ahead")]
    return [*done, (status, "trouble")]
