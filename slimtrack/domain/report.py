"""What others say happened to a parcel, and what it means for the order."""

from datetime import datetime
from enum import Enum, auto
from typing import Final

import msgspec

from slimtrack.domain.errors import TransitionNotAllowedError
from slimtrack.domain.order import TRANSITIONS, Order, Status

#: What a report may say; an order is received and cancelled by its own commands.
REPORTABLE: Final = frozenset(Status) - {Status.RECEIVED, Status.CANCELLED}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a scanner or a courier says; without a time it happened now."""

    status: Status
    message: str | None = None
    location: str | None = None
    source: str | None = None
    occurred_at: datetime | None = None


class Effect(Enum):
    """What a report does to its order."""

    MOVES = auto()
    LATE = auto()


def effect_of(report: Status, order: Order) -> Effect:
    """Tell what a report does to an order.

    A status that the order has, or may have had on its way to where it is, comes late.

    Raises:
        TransitionNotAllowedError: the order can neither go there nor have been there.
    """
    if report in TRANSITIONS[order.status]:
        return Effect.MOVES
    if report is order.status or report in _before(order.status):
        return Effect.LATE
    raise TransitionNotAllowedError(
        order.id, status=order.status, wanted=report, allowed=TRANSITIONS[order.status]
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
