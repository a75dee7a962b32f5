"""Puts the use cases of orders together, and says when each stage is due, and when stuck."""

from collections.abc import Callable

from slimtrack.domain.order import Status
from slimtrack.domain.published import FAN_OUT
from slimtrack.domain.schedule import DeliveryPolicy
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.tracking import Tracking


def create_tracking(settings: Settings, pool: Pool, *, wake_up: Callable[[], None]) -> Tracking:
    """Make the use cases as they are configured."""
    return Tracking(
        pool,
        wake_up=wake_up,
        schedule=schedule_of(settings),
        fan_out=settings.events,
        answer_lifetime=settings.answer_lifetime,
    )


def schedule_of(settings: Settings) -> Schedule:
    """Return when each stage is due."""
    return Schedule(
        settings.stage_delays,
        deliveries=DeliveryPolicy(
            pause=settings.delivery_pause, attempts=settings.delivery_attempts
        ),
    )


def deadlines(settings: Settings) -> dict[str, float]:
    """Return the seconds from the making of a stage's row until it counts as stuck.

    Fan-out rows are due at once, and have as long as those of the first stage.
    """
    delays = {**settings.stage_delays, Status.RETURNED: settings.delivery_pause}
    # After a failed delivery it is due later than usual.
    delays[Status.OUT_FOR_DELIVERY] = max(delays[Status.OUT_FOR_DELIVERY], settings.delivery_pause)
    allowed = {
        **settings.stage_deadlines,
        Status.RETURNED: settings.stage_deadlines[Status.DELIVERED],
    }
    return {
        **{str(stage): delay + allowed[stage] for stage, delay in delays.items()},
        FAN_OUT: allowed[Status.PROCESSING],
    }
