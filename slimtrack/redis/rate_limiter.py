"""Rate limits: how many requests a caller may still make."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from slimtrack.redis.client import TIMEOUT, OptionalServer
from slimtrack.telemetry import metrics


class Allowance(NamedTuple):
    """What a caller may still do; ``reset`` is in how many seconds it may do more."""

    allowed: bool
    limit: int
    remaining: int
    reset: float


class RateLimiter:
    """Counts requests in a sliding window in Redis, shared by all processes.

    The window is that of two fixed ones, the earlier weighted by how much of it still counts; a
    request that is refused is not counted. Without Redis everybody passes.

    Args:
        redis_url: where Redis is; it is first asked when there is something to count.
        per_minute: requests in 60 s for each name.
        clock: seconds that only go forward.
    """

    def __init__(
        self, redis_url: str, *, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis_url = redis_url
        self._per_minute = per_minute
        self._server = OptionalServer("redis", clock=clock)
        self._limiter: Any = None
        self._item: Any = None

    def take(self, name: str) -> Allowance | None:
        """Count a request; None if it passes uncounted, because Redis does not answer."""
        allowance = self._server.ask(lambda: self._take(name))
        if allowance is None:
            metrics.RATE_LIMIT_SKIPPED.inc()
        return allowance

    def _take(self, name: str) -> Allowance:
        limiter = self._limiter or self._connect()
        allowed = limiter.hit(self._item, name)
        stats = limiter.get_window_stats(self._item, name)
        reset = max(0.0, stats.reset_time - time.time())
        return Allowance(allowed, self._per_minute, stats.remaining if allowed else 0, reset)

    def _connect(self) -> Any:
        # Takes longer to import than all else that a command needs, and only the API counts.
        from limits import RateLimitItemPerMinute  # noqa: PLC0415 - as above
        from limits.storage import RedisStorage  # noqa: PLC0415
        from limits.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415

        storage = RedisStorage(
            self._redis_url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
        )
        self._item = RateLimitItemPerMinute(self._per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        return self._limiter
