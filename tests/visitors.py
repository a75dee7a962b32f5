"""Visitors of pages: a client that keeps cookies, and sends back what a form has to carry."""

import re
from dataclasses import replace
from html import unescape
from secrets import randbelow
from typing import Any
from urllib.parse import urlencode

import falcon.testing
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.dashboard import create_dashboard
from slimtrack.bootstrap.tracking_page import create_tracking_page
from slimtrack.http.app import create_app
from slimtrack.http.auth import Authentication, Open
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.settings import Settings
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

_TOKEN = re.compile(r'<meta name="csrf-token" content="([^"]*)">')


def dashboard_app(
    settings: Settings, pool: ConnectionPool, tracking: Tracking, **changed: Any
) -> falcon.App[Any, Any]:
    """Make an app with all pages, where keys are asked for unless settings are changed."""
    access = Access(pool)
    known = replace(settings, **{"authentication": True, **changed})
    pages = []
    if known.dashboard:
        pages.append(
            create_dashboard(
                known, pool, access, tracking=tracking, servers={}, wake_up=lambda: None
            )
        )
    if known.tracking_page:
        pages.append(create_tracking_page(known, pool))
    return create_app(
        tracking=tracking,
        cache=HistoryCache(settings.redis_url),
        authentication=(
            Authentication(access.authenticate) if known.authentication else Open(access.anybody)
        ),
        dependencies={},
        required=(),
        add_pages=pages,
    )


class Visitor:
    """A browser without scripts, on this machine, at an address of its own."""

    def __init__(self, app: falcon.App[Any, Any], *, language: str = "en") -> None:
        self._language = language
        headers = {"Accept-Language": language, "Host": "localhost"}
        self._client = falcon.testing.TestClient(app, headers=headers)
        self._address = f"127.{'.'.join(str(randbelow(254) + 1) for _ in range(3))}"
        self.cookies: dict[str, str] = {}
        self.csrf_token = ""

    def at(self, app: falcon.App[Any, Any]) -> "Visitor":
        """Return the same visitor, of another app."""
        other = Visitor(app, language=self._language)
        other._address = self._address
        other.cookies, other.csrf_token = dict(self.cookies), self.csrf_token
        return other

    def get(self, path: str, **headers: str) -> falcon.testing.Result:
        return self._keep(self._client.simulate_get(path, **self._with(headers)))

    def post(self, path: str, **fields: object) -> falcon.testing.Result:
        """Send a form of the page that was seen last."""
        return self.send(path, {"csrf": self.csrf_token, **fields})

    def send(self, path: str, fields: dict[str, Any], **headers: str) -> falcon.testing.Result:
        """Send any form."""
        headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(fields, doseq=True)
        return self._keep(self._client.simulate_post(path, body=body, **self._with(headers)))

    def sign_in(self, token: str, *, then: str = "") -> falcon.testing.Result:
        self.get("/dashboard/sign-in")
        return self.post("/dashboard/sign-in", key=token, next=then)

    def _with(self, headers: dict[str, str]) -> dict[str, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return {
            "headers": {"Accept": "text/html", **given},
            "cookies": self.cookies,
            "remote_addr": self._address,
        }

    def _keep(self, answer: falcon.testing.Result) -> falcon.testing.Result:
        self.cookies |= {name: cookie.value for name, cookie in answer.cookies.items()}
        if found := _TOKEN.search(answer.text):
            self.csrf_token = unescape(found[1])
        return answer
