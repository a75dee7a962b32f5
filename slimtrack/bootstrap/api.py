"""Puts the API together."""

import atexit
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from wsgiref.types import WSGIApplication

from slimtrack.bootstrap.dashboard import create_dashboard
from slimtrack.bootstrap.database import CALLER_POOL_TIMEOUT, CALLER_SESSION
from slimtrack.bootstrap.errors import report_errors
from slimtrack.bootstrap.limits import limit_of_keys
from slimtrack.bootstrap.traces import record_traces
from slimtrack.bootstrap.tracking import create_tracking
from slimtrack.bootstrap.tracking_page import create_tracking_page
from slimtrack.broker.probes import rabbitmq_answers
from slimtrack.http.app import create_app
from slimtrack.http.auth import Authentication, Open, RateLimiting
from slimtrack.redis.history_cache import HistoryCache
from slimtrack.redis.probes import redis_answers
from slimtrack.settings import Settings
from slimtrack.sql.pool import answers, measure, open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.telemetry import logs
from slimtrack.telemetry.scraping import serve_metrics
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.heartbeats import Heartbeat, Presence
from slimtrack.use_cases.tracking import Tracking

#: Seconds between two looks whether a sign of life is due.
_SIGN: Final = 1.0


def create_api(
    settings: Settings, *, make_tracking: Callable[..., Tracking] = create_tracking
) -> WSGIApplication:
    """Build the WSGI app of one gunicorn worker; call it after the fork.

    ``make_tracking`` may put others in the place of the use cases, to measure the app without them.
    """
    logs.configure(level=settings.log_level, form=settings.log_format)
    report_errors(settings)
    record_traces(settings, process="api")
    pool = open_pool(
        settings.database_url,
        application_name="slimtrack api",
        size=settings.api_threads,
        options=CALLER_SESSION,
        timeout=CALLER_POOL_TIMEOUT,
    )
    atexit.register(pool.close)
    if settings.metrics_bind:
        serve_metrics(settings.metrics_bind, measure=partial(measure, pool))
    _give_signs_of_life(settings)
    access = Access(pool)
    servers = {
        "rabbitmq": partial(rabbitmq_answers, settings.amqp_url),
        "redis": partial(redis_answers, settings.redis_url),
    }
    wake_up = WakeUp(settings.database_url).send
    tracking = make_tracking(settings, pool, wake_up=wake_up)
    take = limit_of_keys(settings)
    pages = []
    if settings.dashboard:
        pages.append(
            create_dashboard(
                settings, pool, access, tracking=tracking, servers=servers, wake_up=wake_up
            )
        )
    if settings.tracking_page:
        pages.append(create_tracking_page(settings, pool))
    return create_app(
        tracking=tracking,
        cache=HistoryCache(settings.redis_url),
        authentication=(
            Authentication(access.authenticate) if settings.authentication else Open(access.anybody)
        ),
        rate_limiting=RateLimiting(take) if take else None,
        dependencies={"postgresql": partial(answers, pool), **servers},
        who_works=Presence(pool).who_works,
        # Without RabbitMQ orders are accepted and wait in the outbox; without Redis nothing waits.
        required={"postgresql"},
        measured=bool(settings.metrics_bind),
        add_pages=pages,
    )


def _give_signs_of_life(settings: Settings) -> None:
    """Have it known that this process runs; whether it serves requests, gunicorn's master sees."""
    heartbeat = Heartbeat(settings.database_url, kind="api")
    atexit.register(heartbeat.close)

    def beat() -> None:
        while True:
            heartbeat.beat()
            time.sleep(_SIGN)

    threading.Thread(target=beat, name="signs of life", daemon=True).start()
