"""The API without its database: ``gunicorn … "benchmarks.no_sql:create_app()"``.

A new order is read, checked, counted and answered as always, and then forgotten. Whose an API key
is, and what the default tenant is like, is still asked of PostgreSQL, twice a second.
"""

import secrets
from collections.abc import Callable
from wsgiref.types import WSGIApplication

from slimtrack.bootstrap import api
from slimtrack.domain.idempotency import Answer, Once
from slimtrack.domain.order import NewOrder, Order
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.changing import Changes, as_placed
from slimtrack.use_cases.tracking import Tracking


class _Forgetful(Changes):
    def __init__(self) -> None:
        """Do without a connection."""

    def place(self, new: NewOrder) -> Order:
        return as_placed(new, secrets.randbits(60))


class _Forgetting(Tracking):
    def execute(
        self,
        command: Callable[[Changes], Answer],
        *,
        once: Once | None = None,  # noqa: ARG002 - as it is called
    ) -> Answer:
        return command(_Forgetful())


def create_app() -> WSGIApplication:
    """Build the WSGI app from the environment."""
    return api.create_api(Settings.from_environment(), make_tracking=_make_tracking)


def _make_tracking(
    settings: Settings,  # noqa: ARG001 - as it is called
    pool: Pool,
    *,
    wake_up: Callable[[], None],
) -> Tracking:
    return _Forgetting(pool, wake_up=wake_up, schedule=Schedule({}))
