"""Orders as they are kept when they have left the tables."""

from collections.abc import Sequence
from datetime import datetime

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.incident import Incident
from slimtrack.domain.order import Order


class ArchivedEvent(OrderEvent, frozen=True):
    """An event with all that is stored of it.

    Attributes:
        idempotency_key: the name of the one thing that it records.
        correlation_id: from which request it follows.
        published_at: when the outbox row that led to it was published, if one did.
        next_due_at: when the row that was made with it was to be due, if one was.
    """

    idempotency_key: str
    correlation_id: str | None
    published_at: datetime | None
    next_due_at: datetime | None


class ArchivedOrder(Order, frozen=True):
    """A finished order: a line of an archive.

    Attributes:
        tenant: whose it was.
        events: its whole history, oldest first.
        incidents: what happened to its outbox rows, beside going through at once.
    """

    tenant: str
    events: list[ArchivedEvent]
    incidents: Sequence[Incident]
