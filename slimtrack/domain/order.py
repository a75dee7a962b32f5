"""Orders, their statuses and the moves between them."""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from math import ceil
from typing import Any, Final
from uuid import UUID

import msgspec

#: The tenant that is there from the beginning.
DEFAULT_TENANT: Final = 1


class Flow(StrEnum):
    """What moves an order."""

    #: Each stage, after its delay.
    SIMULATED = "simulated"
    #: Only what others report.
    REPORTED = "reported"


class Status(StrEnum):
    """Where an order is."""

    RECEIVED = "received"
    PROCESSING = "processing"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    DELIVERED = "delivered"
    DELIVERY_FAILED = "delivery_failed"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    LOST = "lost"


#: Every allowed move. A status that allows no move is final.
TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    Status.RECEIVED: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.IN_TRANSIT, Status.CANCELLED}),
    Status.IN_TRANSIT: frozenset({Status.OUT_FOR_DELIVERY, Status.LOST}),
    Status.OUT_FOR_DELIVERY: frozenset({Status.DELIVERED, Status.DELIVERY_FAILED, Status.LOST}),
    Status.DELIVERY_FAILED: frozenset({Status.OUT_FOR_DELIVERY, Status.RETURNED, Status.LOST}),
    Status.DELIVERED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.RETURNED: frozenset(),
    Status.LOST: frozenset(),
}

#: What an order reaches, one after the other, when all goes well.
JOURNEY: Final = (
    Status.PROCESSING,
    Status.IN_TRANSIT,
    Status.OUT_FOR_DELIVERY,
    Status.DELIVERED,
)

#: The same with the status in which an order begins, and to which no work brings it.
WAY: Final = (Status.RECEIVED, *JOURNEY)

#: Every status to which work brings an order; that work is a stage, and bears its name.
STAGES: Final = (*JOURNEY, Status.RETURNED)

#: Statuses from which an order never moves again.
FINAL: Final = frozenset(status for status, allowed in TRANSITIONS.items() if not allowed)


def sources_of(status: Status) -> tuple[Status, ...]:
    """Return the statuses from which an order may move to ``status``."""
    return tuple(source for source, allowed in TRANSITIONS.items() if status in allowed)


#: Limits of what a caller may store with an order (characters, characters, bytes of JSON).
MAX_DESCRIPTION: Final = 500
MAX_REFERENCE: Final = 100
MAX_METADATA_BYTES: Final = 4096
#: Limits of what a caller may store with an event (characters).
MAX_MESSAGE: Final = 500
MAX_LOCATION: Final = 200
MAX_SOURCE: Final = 100


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its caller describes it, with the id it will have.

    The id is chosen before the order is stored, so a command whose outcome is unknown can be sent
    again without making a second order.
    """

    id: UUID
    description: str
    reference: str | None = None
    metadata: dict[str, Any] = {}
    flow: Flow = Flow.SIMULATED
    tenant_id: int = DEFAULT_TENANT
    correlation_id: str | None = None


class Order(msgspec.Struct, frozen=True):
    """One customer's request for delivery, as it stands now.

    The order of the fields is that of the queries.

    Attributes:
        id: made by SlimTrack; ids made later sort later.
        tracking_code: for people: read it over the phone, type it in any case.
        reference: the caller's own order number, if there is one.
        description: what is to be delivered.
        metadata: whatever the caller stored with it.
        flow: what moves it: time (simulated) or only reports (reported).
        status: where it is.
        delivery_attempts: how often the parcel went out for delivery.
        version: the number of its events; the same as its ETag.
        created_at: when it was placed.
        updated_at: when its last event was recorded.
    """

    id: UUID
    tracking_code: str
    reference: str | None
    description: str
    metadata: dict[str, Any]
    flow: Flow
    status: Status
    delivery_attempts: int
    version: int
    created_at: datetime
    updated_at: datetime


def time_of(order_id: UUID) -> datetime:
    """Return when an id was made, to the millisecond; the order was created then."""
    return datetime.fromtimestamp((order_id.int >> 80) / 1000, UTC)


def first_id_of(moment: datetime) -> UUID:
    """Return an id that is as large as those made at a moment, or later, at least have to be."""
    return UUID(int=max(0, ceil(moment.timestamp() * 1000)) << 80)


def new_order_id() -> UUID:
    """Return a UUIDv7: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, 5.7).

    Ids made later sort later (to the millisecond), so new orders touch the same index pages.
    """
    return new_order_ids(1)[0]


def new_order_ids(count: int) -> list[UUID]:
    """Return so many new ids, at a fraction of what they cost one by one."""
    moment = (time.time_ns() // 1_000_000) << 80 | _VERSION_7
    random = os.urandom(10 * count)
    return [
        UUID(int=moment | int.from_bytes(random[start : start + 10]) & _RANDOM)
        for start in range(0, 10 * count, 10)
    ]


#: The bits of a UUID that say that it is of version 7, and those that are random in one.
_VERSION_7: Final = 0x7 << 76 | 0x2 << 62
_RANDOM: Final = 0xFFF << 64 | (1 << 62) - 1
