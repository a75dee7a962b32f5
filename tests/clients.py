"""Callers of the API, each with a key of its own."""

from collections.abc import Collection
from typing import Any

import falcon.testing
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import Scope
from slimtrack.domain.order import Flow
from slimtrack.http.app import create_app
from slimtrack.http.auth import Authentication
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

Result = falcon.testing.Result


class Caller(falcon.testing.TestClient):
    """Sends requests with an API key."""

    def place(self, **fields: Any) -> dict[str, Any]:
        answer = self.simulate_post("/api/orders", json={"description": "Two boxes", **fields})
        assert answer.status_code == 201, answer.text
        placed: dict[str, Any] = answer.json
        return placed

    def command(self, order: Any, name: str, body: Any = None, **headers: str) -> Result:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return self.simulate_post(f"/api/orders/{order}/{name}", headers=given)
        return self.simulate_post(f"/api/orders/{order}/{name}", json=body, headers=given)

    def events(self, order: Any) -> list[dict[str, Any]]:
        answer = self.simulate_get(f"/api/orders/{order}/events")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json["events"]
        return found


class Callers:
    """Makes callers of one API."""

    def __init__(self, tracking: Tracking, pool: ConnectionPool, *, redis_url: str) -> None:
        self.access = Access(pool)
        self._app = create_app(
            tracking=tracking,
            cache=HistoryCache(redis_url),
            authentication=Authentication(self.access.authenticate),
            dependencies={},
            required=(),
        )

    def make(
        self,
        *,
        tenant: str = "default",
        scopes: Collection[Scope] = tuple(Scope),
        flow: Flow = Flow.REPORTED,
    ) -> Caller:
        """Make a caller of a tenant, which is made too if there is none of that name."""
        if tenant not in {each.name for each in self.access.list_tenants()}:
            self.access.create_tenant(tenant, flow=flow)
        token = self.access.create_key(tenant=tenant, name="test", scopes=scopes)
        return self.with_token(token)

    def with_token(self, token: str | None) -> Caller:
        """Make a caller with any token, or none."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return Caller(self._app, headers=headers)
