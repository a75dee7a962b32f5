"""Events on their way to other services."""

from datetime import datetime
from typing import Final

import msgspec

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import Order

#: What fan-out rows have where others have their stage.
FAN_OUT: Final = "events"


class PublishedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is to be published: its row, whose it is, and its order as it stands now."""

    row_id: int
    tenant_id: int
    correlation_id: str | None
    due_at: datetime
    event: OrderEvent
    order: Order
