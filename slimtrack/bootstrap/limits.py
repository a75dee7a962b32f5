"""How often a key may ask, over the API and in the dashboard together."""

from collections.abc import Callable

from slimtrack.redis.rate_limiter import Allowance, RateLimiter
from slimtrack.settings import Settings


def limit_of_keys(settings: Settings) -> Callable[[str], Allowance | None] | None:
    """Return what counts a request of a key; None where keys ask as often as they like."""
    if not (settings.authentication and settings.rate_limit):
        return None
    return RateLimiter(settings.redis_url, per_minute=settings.rate_limit).take
