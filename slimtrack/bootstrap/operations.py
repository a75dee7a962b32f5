"""Puts the use cases of those who run the system together."""

from collections.abc import Callable
from functools import partial

from slimtrack.bootstrap.tracking import deadlines
from slimtrack.broker.probes import measure_queues, rabbitmq_version
from slimtrack.http.dashboard.operations import Operations
from slimtrack.redis.probes import redis_version
from slimtrack.settings import Settings, state_directory
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.operating import Operating
from slimtrack.use_cases.reconciling import Reconciling
from slimtrack.use_cases.simulating import Simulating
from slimtrack.use_cases.tracking import Tracking


def create_operations(
    settings: Settings, pool: Pool, *, tracking: Tracking, wake_up: Callable[[], None]
) -> Operations:
    """Make the use cases as they are configured.

    Args:
        settings: the settings.
        pool: connections to PostgreSQL, in autocommit.
        tracking: places simulated orders.
        wake_up: tells the publisher that rows may be due.
    """
    return Operations(
        Operating(
            pool,
            urls={
                "postgresql": settings.database_url,
                "rabbitmq": settings.amqp_url,
                "redis": settings.redis_url,
            },
            versions={
                "rabbitmq": partial(rabbitmq_version, settings.amqp_url),
                "redis": partial(redis_version, settings.redis_url),
            },
            directory=state_directory(),
        ),
        Reconciling(
            pool,
            wake_up=wake_up,
            deadlines=deadlines(settings),
            measure_queues=partial(measure_queues, settings.amqp_url),
        ),
        Simulating(pool, tracking=tracking) if settings.simulation else None,
    )
