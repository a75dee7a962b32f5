"""Which orders a list is to show, and in which order."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from slimtrack.domain.order import Order, Status

_FIRST = UUID(int=0)
_LAST = UUID(int=(1 << 128) - 1)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A list of orders, newest first unless it says otherwise.

    Attributes:
        tenant_id: whose orders; None for anybody's.
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

    tenant_id: int | None
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
    def indexed(self) -> tuple[str, ...]:
        """What it asks for beside statuses and times of making, the rarest first."""
        asked = {
            "reference": self.reference,
            "tracking_number": self.tracking_number,
            "updated_at": self.updated_after or self.updated_before,
            "metadata": self.metadata or None,
        }
        return tuple(name for name, value in asked.items() if value is not None)

    @property
    def is_of_all(self) -> bool:
        """Whether the orders of all tenants are meant, in all statuses."""
        return self.tenant_id is None and self.statuses == frozenset(Status)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for statuses at most."""
        return not self.indexed and (self.after, self.before) == (_FIRST, _LAST)


class Found(NamedTuple):
    """Orders of a listing; where that had to end too early, the id up to which all are found."""

    orders: list[Order]
    reach: UUID | None
