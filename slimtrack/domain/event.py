"""Events: what happened to an order, never changed once written."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from slimtrack.domain.order import Status

#: Events of an order, at most; of those that do not move it, far fewer, so that no number of them
#: keeps it from arriving.
MAX_EVENTS: Final = 1_000
MAX_REMARKS: Final = 800

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


class EventKind(StrEnum):
    """What an event does."""

    #: The order moved to the event's status.
    TRANSITION = "transition"
    #: A report of what the order had passed already; nothing moved.
    LATE = "late"
    #: An earlier event, ``corrects``, was wrong; nothing moved.
    CORRECTION = "correction"


class OrderEvent(msgspec.Struct, frozen=True):
    """A fact about an order, never changed.

    The order of the fields is that of the queries.

    Attributes:
        sequence: counts the order's events from 1 without gap.
        kind: what it does.
        status: what the order reached, or what a late report says.
        message: for people.
        reason: why it happened, if somebody said so.
        location: where it happened, if somebody said so.
        source: who said so; nobody where a stage did it.
        attempt: the delivery attempt that it is about, counted from 1.
        corrects: the sequence of the event that was wrong.
        occurred_at: when it happened, as far as whoever told us knows.
        recorded_at: when we learned of it.
    """

    sequence: int
    kind: EventKind
    status: Status
    message: str
    reason: str | None
    location: str | None
    source: str | None
    attempt: int | None
    corrects: int | None
    occurred_at: datetime
    recorded_at: datetime
