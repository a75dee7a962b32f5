"""Events: what happened to an order, never changed once written."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from slimtrack.domain.order import Status

#: What the history of an order says when it reaches a status.
MESSAGES: Final[Mapping[Status, str]] = {
    Status.RECEIVED: "Order received",
    Status.PROCESSING: "Order is being prepared",
    Status.IN_TRANSIT: "Parcel is on its way",
    Status.OUT_FOR_DELIVERY: "Parcel is out for delivery",
    Status.DELIVERED: "Parcel was delivered",
    Status.DELIVERY_FAILED: "Delivery failed",
    Status.CANCELLED: "Order was cancelled",
    Status.RETURNED: "Parcel was returned to its sender",
    Status.LOST: "Parcel was lost",
}


class OrderEvent(msgspec.Struct, frozen=True):
    """A fact about an order; ``sequence`` counts the order's events from 1 without gap."""

    sequence: int
    status: Status
    message: str
    occurred_at: datetime
