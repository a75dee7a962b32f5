"""Puts the tracking page together."""

import atexit
from functools import partial
from typing import Final

from slimtrack.bootstrap.tracking import schedule_of
from slimtrack.http.addresses import Proxies
from slimtrack.http.app import AddPages
from slimtrack.http.live import Broadcaster
from slimtrack.http.tracking_page import page
from slimtrack.http.tracking_page.visitors import Visitors
from slimtrack.redis.rate_limiter import RateLimiter
from slimtrack.settings import Settings
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.following import Following

#: Requests of one address in a minute: many people may share one.
_REQUESTS: Final = 300
#: Streams per process: other than those of the dashboard, which the public may not use up.
_STREAMS: Final = 500
#: Of them, those of one address: an office, or a mobile network, may have only one.
_STREAMS_PER_ADDRESS: Final = 50
#: Seconds between two looks at the orders that are watched: with the page that is asked for then,
#: and whatever else goes on, news are to be seen within a second. A look finds them by their ids.
_INTERVAL: Final = 0.25


def create_tracking_page(settings: Settings, pool: Pool) -> AddPages:
    """Return what adds the page to the app of one process."""
    following = Following(pool, schedule=schedule_of(settings))
    broadcaster = Broadcaster(
        limit=_STREAMS, limit_per_owner=_STREAMS_PER_ADDRESS, interval=_INTERVAL
    )
    atexit.register(broadcaster.close)
    visitors = Visitors(
        take=RateLimiter(settings.redis_url, per_minute=_REQUESTS).take,
        asker_of=Proxies(settings.trusted_proxies).asker_of,
    )
    return partial(
        page.add_tracking_page, following=following, broadcaster=broadcaster, visitors=visitors
    )
