"""What others say happened to a parcel, and what it means for the order."""

from datetime import datetime
from enum import Enum, auto
from typing import Final

import msgspec

from slimtrack.domain.errors import TransitionNotAllowedError
from slimtrack.domain.order import TRANSITIONS, Order, Status

#: What a report may say; an order is received and cancelled by its own commands.
REPORTABLE: Final = frozenset(Status) - {Status.RECEIVED, Status.CANCELLED}


#: What may be said of a delivery attempt; after the last one the parcel is returned.
_OF_ATTEMPTS: Final = frozenset(
    {Status.OUT_FOR_DELIVERY, Status.DELIVERED, Status.DELIVERY_FAILED, Status.LOST}
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a scanner or a courier says; without a time it happened now.

    ``attempt`` is the delivery attempt that it is about, counted from 1; without one it is about
    whichever there is now.
    """

    status: Status
    attempt: int | None = None
    message: str | None = None
    reason: str | None = None
    location: str | None = None
    source: str | None = None
    occurred_at: datetime | None = None


class Effect(Enum):
    """What a report does to its order."""

    MOVES = auto()
    LATE = auto()


def effect_of(report: Report, order: Order) -> Effect:
    """Tell what a report does to an order.

    A status that the order has, or may have had on its way to where it is, comes late, and so does
    whatever is said of a delivery attempt that is over. When it is said to have happened decides
    nothing: clocks differ, and a report that is taken for late moves no order.

    Raises:
        TransitionNotAllowedError: the order can neither go there nor have been there, or has not
            had the attempt.
    """
    allowed = TRANSITIONS[order.status]
    moves = report.status in allowed
    past = report.status is order.status or report.status in _before(order.status)
    current = order.delivery_attempts + (moves and report.status is Status.OUT_FOR_DELIVERY)
    attempt = current if report.attempt is None else report.attempt
    if attempt < current and (past or report.status in _OF_ATTEMPTS):
        return Effect.LATE
    if attempt == current and past and not moves:
        return Effect.LATE
    if attempt == current and moves:
        return Effect.MOVES
    raise TransitionNotAllowedError(
        order.id, status=order.status, wanted=report.status, allowed=allowed, attempt=report.attempt
    )


def _before(status: Status) -> frozenset[Status]:
    """Return every status from which some way leads to this one."""
    found: frozenset[Status] = frozenset()
    while True:
        further = frozenset(
            source for source, allowed in TRANSITIONS.items() if allowed & {status, *found}
        )
        if further == found:
            return found
        found = further
