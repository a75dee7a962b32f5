"""Puts the dashboard together."""

import atexit
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from slimtrack.bootstrap.limits import limit_of_keys
from slimtrack.bootstrap.operations import create_operations
from slimtrack.http.addresses import Proxies
from slimtrack.http.app import AddPages
from slimtrack.http.dashboard.app import add_dashboard
from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.sessions import Sessions
from slimtrack.http.dashboard.sign_in import SignIn, SignOut
from slimtrack.http.live import Broadcaster
from slimtrack.redis.rate_limiter import RateLimiter
from slimtrack.settings import Settings
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.actions import Actions
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.watching import Watching

#: Attempts to sign in from one address in a minute: each costs a query.
_SIGN_INS: Final = 100


def create_dashboard(
    settings: Settings,
    pool: Pool,
    access: Access,
    *,
    tracking: Tracking,
    servers: Mapping[str, Callable[[], bool]],
    wake_up: Callable[[], None],
) -> AddPages:
    """Return what adds the dashboard to the app of one process.

    Args:
        settings: those of the process.
        pool: connections to PostgreSQL, in autocommit.
        access: knows whose a key is.
        tracking: the use cases of orders.
        servers: tell, by name, whether they answer.
        wake_up: tells the publisher that rows may be due.
    """
    watching = Watching(pool, servers=servers)
    operations = create_operations(settings, pool, tracking=tracking, wake_up=wake_up)
    broadcaster = Broadcaster()
    atexit.register(broadcaster.close)
    sessions = Sessions(access.session_secret)
    door = Door(
        sessions,
        find=access.find,
        anybody=None if settings.authentication else access.anybody,
        take=limit_of_keys(settings),
    )
    return partial(
        add_dashboard,
        door=door,
        sign_in=SignIn(
            sessions,
            authenticate=access.authenticate,
            take=RateLimiter(settings.redis_url, per_minute=_SIGN_INS).take,
            asker_of=Proxies(settings.trusted_proxies).asker_of,
        ),
        sign_out=SignOut(sessions),
        watching=watching,
        tracking=tracking,
        operations=operations,
        broadcaster=broadcaster,
        dead_letters=DeadLetters(pool, wake_up=wake_up),
        has_tracking_page=settings.tracking_page,
        actions=Actions(pool),
    )
