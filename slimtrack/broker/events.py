"""Events as other services receive them: CloudEvents 1.0 in JSON, on a topic exchange."""

from datetime import datetime
from typing import Final

import msgspec

from slimtrack.broker.topology import EVENT_EXCHANGE
from slimtrack.domain.event import EventKind, OrderEvent
from slimtrack.domain.order import Order
from slimtrack.domain.published import PublishedEvent

CONTENT_TYPE: Final = "application/cloudevents+json"
_SOURCE: Final = "/slimtrack/orders"


class EventData(msgspec.Struct, frozen=True):
    """What a CloudEvent of ours is about."""

    event: OrderEvent
    order: Order


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The envelope that CloudEvents 1.0 prescribes, in its structured JSON form.

    Attributes:
        id: ``<order id>:<sequence>``; the same whenever the event is published again.
        tenantid: whose order it is.
        correlationid: the request that the event follows from.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    tenantid: str
    correlationid: str | None = None
    data: EventData


class EventMessage:
    """An event on its way to the exchange; nobody may have asked for it."""

    exchange: Final = EVENT_EXCHANGE
    content_type: Final = CONTENT_TYPE
    mandatory: Final = False

    def __init__(self, published: PublishedEvent) -> None:
        event, order = published.event, published.order
        subject = str(order.id)
        self.id = f"{subject}:{event.sequence}"
        self.routing_key = f"order.{event.status}"
        self._event = CloudEvent(
            specversion="1.0",
            id=self.id,
            source=_SOURCE,
            type=type_of(event),
            subject=subject,
            time=event.recorded_at,
            datacontenttype="application/json",
            tenantid=str(published.tenant_id),
            correlationid=published.correlation_id,
            data=EventData(event, order),
        )

    def encode(self) -> bytes:
        """Return the body."""
        return msgspec.json.encode(self._event)


def type_of(event: OrderEvent) -> str:
    """Return the CloudEvents type of an event."""
    if event.kind is EventKind.LATE:
        return "slimtrack.order.late_report"
    if event.kind is EventKind.CORRECTION:
        return "slimtrack.order.correction"
    return f"slimtrack.order.{event.status}"
