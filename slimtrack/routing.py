"""The pipeline on one page: which stage each status makes due, and where its rows travel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slimtrack.domain.order import Status
from slimtrack.domain.schedule import NOTHING, DeliveryPolicy, Due


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A stage: the work that brings an order to ``stage``, on its own queue, by its own actor."""

    stage: Status
    queue_name: str
    actor_name: str


#: Reaching the status on the left makes the stage on the right due.
ROUTES: Final[Mapping[Status, Route]] = {
    Status.RECEIVED: Route(
        stage=Status.PROCESSING,
        queue_name="orders.processing",
        actor_name="start_processing",
    ),
    Status.PROCESSING: Route(
        stage=Status.IN_TRANSIT,
        queue_name="orders.in_transit",
        actor_name="start_transit",
    ),
    Status.IN_TRANSIT: Route(
        stage=Status.OUT_FOR_DELIVERY,
        queue_name="orders.out_for_delivery",
        actor_name="start_delivery",
    ),
    Status.OUT_FOR_DELIVERY: Route(
        stage=Status.DELIVERED,
        queue_name="orders.delivered",
        actor_name="complete_delivery",
    ),
    # After the last attempt; before that, DeliveryPolicy makes another one due.
    Status.DELIVERY_FAILED: Route(
        stage=Status.RETURNED,
        queue_name="orders.returned",
        actor_name="return_parcel",
    ),
}


class Schedule:
    """When each stage is due.

    Args:
        stage_delays: seconds until each stage is due.
        deliveries: what follows a failed delivery.
    """

    def __init__(
        self, stage_delays: Mapping[Status, float], *, deliveries: DeliveryPolicy | None = None
    ) -> None:
        self._delays = stage_delays
        self._deliveries = deliveries or DeliveryPolicy()

    def after(self, status: Status, *, delivery_attempts: int = 0) -> Due:
        """Return what is due when an order has reached a status."""
        if status is Status.DELIVERY_FAILED:
            return self._deliveries.after(delivery_attempts)
        route = ROUTES.get(status)
        return Due(route.stage, self._delays[route.stage]) if route else NOTHING


#: The same routes by their stage and by their queue.
BY_STAGE: Final[Mapping[Status, Route]] = {route.stage: route for route in ROUTES.values()}
BY_QUEUE: Final[Mapping[str, Route]] = {route.queue_name: route for route in ROUTES.values()}
