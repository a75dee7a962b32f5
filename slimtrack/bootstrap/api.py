"""Puts the API together."""

import atexit
from collections.abc import Callable
from functools import partial
from wsgiref.types import WSGIApplication

from slimtrack import probes
from slimtrack.bootstrap.database import CALLER_POOL_TIMEOUT, CALLER_SESSION, create_tracking
from slimtrack.http.app import create_app
from slimtrack.http.auth import Authentication, Open, RateLimiting
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.redis.rate_limiter import RateLimiter
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.telemetry import logs
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking


def create_api(
    settings: Settings, *, make_tracking: Callable[..., Tracking] = create_tracking
) -> WSGIApplication:
    """Build the WSGI app of one gunicorn worker; call it after the fork.

    ``make_tracking`` may put others in the place of the use cases, to measure the app without them.
    """
    logs.configure(level=settings.log_level, form=settings.log_format)
    pool = open_pool(
        settings.database_url,
        application_name="slimtrack api",
        size=settings.api_threads,
        options=CALLER_SESSION,
        timeout=CALLER_POOL_TIMEOUT,
    )
    atexit.register(pool.close)
    access = Access(pool)
    return create_app(
        tracking=make_tracking(settings, pool, wake_up=WakeUp(settings.database_url).send),
        cache=HistoryCache(settings.redis_url),
        authentication=(
            Authentication(access.authenticate) if settings.authentication else Open(access.anybody)
        ),
        rate_limiting=_rate_limiting(settings),
        dependencies={
            "postgresql": partial(probes.postgresql_answers, pool),
            "rabbitmq": partial(probes.rabbitmq_answers, settings.amqp_url),
            "redis": partial(probes.redis_answers, settings.redis_url),
        },
        # Without RabbitMQ orders are accepted and wait in the outbox; without Redis nothing waits.
        required={"postgresql"},
    )


def _rate_limiting(settings: Settings) -> RateLimiting | None:
    if not (settings.authentication and settings.rate_limit):
        return None
    return RateLimiting(RateLimiter(settings.redis_url, per_minute=settings.rate_limit).take)
