"""An app of nothing but streams, for gunicorn: what can be watched are the rows of a table."""

import atexit
from collections.abc import Mapping
from typing import Any

import falcon
from psycopg_pool import ConnectionPool

from slimtrack.http.live import MEDIA_TYPE, Broadcaster
from slimtrack.settings import Settings
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import open_pool

#: What the app needs; ``looks`` counts how often anything is read.
TABLES = """
    CREATE TABLE watched (key text PRIMARY KEY, state text, revoked boolean DEFAULT false);
    CREATE SEQUENCE looks
"""
LIMIT = 60
LIMIT_PER_OWNER = 55


class Watched:
    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        with unavailable_if_away(), self._pool.connection() as connection:
            return dict(
                connection.execute(
                    "SELECT key, state FROM watched, (SELECT nextval('looks')) AS look"
                    " WHERE key = ANY(%s)",
                    (list(keys),),
                ).fetchall()
            )

    def is_revoked(self, key: str) -> bool:
        with unavailable_if_away(), self._pool.connection() as connection:
            statement = "SELECT FROM watched WHERE key = %s AND revoked"
            return connection.execute(statement, (key,)).fetchone() is not None


class Page:
    media_types = (MEDIA_TYPE,)

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._broadcaster = Broadcaster(limit=LIMIT, limit_per_owner=LIMIT_PER_OWNER)
        atexit.register(self._broadcaster.close)

    def on_get(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        self._broadcaster.attach(
            req,
            resp,
            topic=self._watched,
            owner=req.get_header("Owner") or "",
            key=key,
            allowed=lambda: not self._watched.is_revoked(key),
        )


class Ordinary:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "fine"


def create_app() -> falcon.App[Any, Any]:
    app = falcon.App()
    pool = open_pool(
        Settings.from_environment().database_url,
        application_name="live",
        size=2,
        options={},
        timeout=1,
    )
    app.add_route("/health/live", Ordinary())
    app.add_route("/live/{key}", Page(Watched(pool)))
    return app
