"""The cache of histories: what an order's history was at a version never changes."""

from functools import partial
from typing import Any, Final
from uuid import UUID

from slimtrack.redis.client import OptionalServer, connect_redis
from slimtrack.telemetry import metrics

#: Seconds after which nobody asks for a history again.
_LIFETIME: Final = 3_600
#: Of what an encoded history looks like: another number where its events get another field.
_FORM: Final = 2


class HistoryCache:
    """Keeps histories in Redis, each under its order's id and version.

    Nothing ever has to be dropped: a change makes a new version, and whoever asks names the
    version that PostgreSQL has. Without Redis nothing is found.

    Args:
        redis_url: where Redis is; it is first asked when somebody asks for a history.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._server = OptionalServer("redis")
        self._client: Any = None

    def get(self, order_id: UUID, *, version: int) -> bytes | None:
        """Return the encoded history of a version; None where it is not known."""
        found: bytes | None = self._server.ask(
            lambda: self._connected().get(_key(order_id, version))
        )
        metrics.CACHE_REQUESTS.labels("hit" if found else "miss").inc()
        return found

    def put(self, order_id: UUID, *, version: int, history: bytes) -> None:
        """Keep the encoded history of a version."""
        keep = partial(self._connected().set, _key(order_id, version), history, ex=_LIFETIME)
        self._server.ask(keep)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connect_redis(self._redis_url)
        return self._client


def _key(order_id: UUID, version: int) -> str:
    return f"slimtrack:history:{_FORM}:{order_id}:{version}"
