"""Orders as they are kept when they have left the tables."""

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import Order


class ArchivedEvent(OrderEvent, frozen=True):
    """An event with all that is stored of it.

    Attributes:
        idempotency_key: the name of the one thing that it records.
        correlation_id: from which request it follows.
    """

    idempotency_key: str
    correlation_id: str | None


class ArchivedOrder(Order, frozen=True):
    """A finished order: a line of an archive.

    Attributes:
        tenant: whose it was.
        events: its whole history, oldest first.
    """

    tenant: str
    events: list[ArchivedEvent]
