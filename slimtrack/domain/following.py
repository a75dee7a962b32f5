"""What somebody who waits for a parcel is told of its order: nothing that a caller has written."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from slimtrack.domain.order import Flow, Status


class Lead(msgspec.Struct, frozen=True):
    """Seconds from a status to the delivery: of half of the orders, and of nine in ten."""

    usual: float
    most: float


class Expectation(msgspec.Struct, frozen=True):
    """When a delivery is expected; ``is_late`` where it takes longer than nine in ten did.

    There is no ``earliest`` where that has passed, or is less than a minute from the latest.
    """

    earliest: datetime | None
    latest: datetime
    is_late: bool


class Passed(msgspec.Struct, frozen=True):
    """A status that an order reached.

    Attributes:
        status: the status.
        attempt: the delivery attempt that this is about, counted from 1.
        is_wrong: whether a correction says so.
        occurred_at: when it happened.
    """

    status: Status
    attempt: int | None
    is_wrong: bool
    occurred_at: datetime


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its parcel's receiver sees it.

    Attributes:
        tracking_code: what they know it by.
        tenant_id: whose order it is; for looking at what that tenant's orders took.
        flow: what moves it.
        delivery_attempts: how often the parcel went out for delivery.
        version: the number of its events.
        passed: every status that it reached, oldest first.
    """

    tracking_code: str
    tenant_id: int
    flow: Flow
    delivery_attempts: int
    version: int
    passed: Sequence[Passed]

    @property
    def status(self) -> Status:
        """Where it is."""
        return self.passed[-1].status


def expect(reached_at: datetime, lead: Lead, *, now: datetime) -> Expectation:
    """Return when an order is expected that reached its status at a time."""
    earliest = reached_at + timedelta(seconds=lead.usual)
    latest = reached_at + timedelta(seconds=lead.most)
    is_window = now < earliest and latest - earliest >= timedelta(minutes=1)
    return Expectation(
        earliest=earliest if is_window else None, latest=latest, is_late=now > latest
    )
