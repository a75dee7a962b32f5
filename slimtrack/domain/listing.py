"""Which orders a list is to show, and in which order."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from slimtrack.domain.order import Order, Status

_FIRST = UUID(int=0)
_LAST = UUID(int=(1 << 128) - 1)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A list of a tenant's orders, newest first unless it says otherwise.

    Attributes:
        tenant_id: whose orders.
        statuses: in one of these.
        reference: with this reference.
        tracking_number: with this tracking number.
        after: with a larger id than this one; ids are as old as their orders.
        before: with a smaller id.
        updated_after: changed at this time or later.
        updated_before: changed before this time.
        metadata: with these names and values in the metadata.
        oldest_first: the other way round.
    """

    tenant_id: int
    statuses: frozenset[Status] = frozenset(Status)
    reference: str | None = None
    tracking_number: int | None = None
    after: UUID = _FIRST
    before: UUID = _LAST
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    metadata: Mapping[str, str] = {}
    oldest_first: bool = False

    @property
    def needs_search(self) -> bool:
        """Whether it asks for more than statuses and times of making."""
        return bool(self.metadata or self.updated_after or self.updated_before)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for statuses at most."""
        return not (
            self.needs_search
            or self.reference is not None
            or self.tracking_number is not None
            or (self.after, self.before) != (_FIRST, _LAST)
        )

    def shows(self, order: Order) -> bool:
        """Whether an order that has the reference or tracking number fits all else."""
        return (
            order.status in self.statuses
            and self.after < order.id < self.before
            and (self.updated_after is None or order.updated_at >= self.updated_after)
            and (self.updated_before is None or order.updated_at < self.updated_before)
            and all(order.metadata.get(name) == value for name, value in self.metadata.items())
        )


class OrderPage(msgspec.Struct, frozen=True):
    """One page of a list of orders.

    Attributes:
        orders: those on the page.
        page: its number, where it was asked for by number.
        page_size: how many orders it may have.
        total: how many there are in all; counted up to 10,000, and only for pages by number that
            ask for statuses at most.
        next_cursor: asks for the page after this one; None on the last.
    """

    orders: list[Order]
    page: int | None
    page_size: int
    total: int | None
    next_cursor: str | None
