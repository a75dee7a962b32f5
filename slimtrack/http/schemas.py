"""What the bodies of requests may say; the rules of an order's fields are the domain's."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from slimtrack.domain.access import Principal
from slimtrack.domain.errors import FieldError
from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import (
    MAX_DESCRIPTION,
    MAX_LOCATION,
    MAX_MESSAGE,
    MAX_REFERENCE,
    MAX_SOURCE,
    Flow,
    NewOrder,
    Order,
    Status,
    new_order_id,
)
from slimtrack.domain.report import REPORTABLE, Report
from slimtrack.domain.rules import (
    clean_description,
    clean_line,
    clean_message,
    clean_metadata,
    clean_moment,
    clean_reference,
)
from slimtrack.http.decoding import decode, find_repeated_names, invalid
from slimtrack.http.problems import Fault


def _text(what: str, *, most: int, one_line: bool = True, example: str | None = None) -> Meta:
    """Describe a text; that it is so is checked by the domain, in better words than a schema's."""
    unwanted = r"\x00-\x1f\x7f-\x9f\u2028\u2029" if one_line else r"\x00-\x08\x0b-\x1f\x7f-\x9f"
    return Meta(
        description=f"{what}{' in one line' if one_line else ''}, not blank.",
        examples=[example] if example else None,
        extra_json_schema={"minLength": 1, "maxLength": most, "pattern": f"^[^{unwanted}]*$"},
    )


_Description = Annotated[
    str, _text("What is to be delivered", most=MAX_DESCRIPTION, one_line=False, example="Books")
]
_Reference = Annotated[
    str, _text("Your own order number, used once,", most=MAX_REFERENCE, example="PO-1")
]
_Message = Annotated[
    str, _text("What people read", most=MAX_MESSAGE, one_line=False, example="Left the hub")
]
_Reason = Annotated[
    str, _text("Why it happened", most=MAX_MESSAGE, one_line=False, example="Nobody was at home")
]
_Location = Annotated[str, _text("Where it happened", most=MAX_LOCATION, example="Kraków hub")]
_Source = Annotated[str, _text("Who says so", most=MAX_SOURCE, example="scanner 12")]
#: What an idempotency key may be, here and in its header.
KEY_PATTERN: Final = "[!-~]{1,255}"
#: More than any parcel ever has.
_MAX_ATTEMPT: Final = 2**15 - 1
_Attempt = Annotated[
    int,
    Meta(
        description="Which delivery attempt it is about, counted from 1. Of one that is over, the"
        " report is late; of one that there has not been, it is refused. Without it, the report is"
        " about whichever there is now, and a repeat that comes in the next attempt counts again.",
        ge=1,
        le=_MAX_ATTEMPT,
        examples=[1],
    ),
]
_Key = Annotated[
    str,
    Meta(
        description="Your name for the placing of this one order: repeated, it has no effect.",
        extra_json_schema={"pattern": f"^{KEY_PATTERN}$"},
    ),
]


class PlaceOrder(msgspec.Struct, forbid_unknown_fields=True):
    """A new order."""

    description: _Description
    reference: _Reference | None = None
    metadata: dict[str, Any] | None = None
    flow: Annotated[
        Flow | None,
        Meta(description="What moves the order; as your tenant is set up, unless you say so."),
    ] = None


class BulkOrder(PlaceOrder, forbid_unknown_fields=True):
    """One of many new orders."""

    idempotency_key: _Key | None = None


class CancelOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Why an order is cancelled."""

    reason: _Reason | None = None


class MakeReport(msgspec.Struct, forbid_unknown_fields=True):
    """What a scanner or a courier says; without a time, it happened now."""

    status: Annotated[
        Status,
        Meta(
            description="What the parcel reached.",
            extra_json_schema={"enum": sorted(REPORTABLE)},
        ),
    ]
    attempt: _Attempt | None = None
    message: _Message | None = None
    reason: _Reason | None = None
    location: _Location | None = None
    source: _Source | None = None
    occurred_at: Annotated[
        datetime | None,
        Meta(
            description="When it happened: from the year 2000 until now. It decides nothing:"
            " clocks differ.",
            examples=["2026-01-31T12:00:00Z"],
        ),
    ] = None


class CorrectEvent(msgspec.Struct, forbid_unknown_fields=True):
    """What was wrong with an event."""

    sequence: Annotated[
        int, Meta(description="The event that was wrong.", ge=1, le=2**31 - 1, examples=[1])
    ]
    message: _Message
    source: _Source | None = None


class History(msgspec.Struct):
    """The events of one order, oldest first."""

    order_id: UUID
    events: Sequence[OrderEvent]


class OrderPage(msgspec.Struct, frozen=True):
    """One page of a list of orders.

    Attributes:
        orders: those on the page.
        page: its number, where it was asked for by number.
        page_size: how many orders it may have.
        total: how many there are in all; counted up to 10,000, and only for pages by number that
            ask for statuses at most.
        next_cursor: asks for the page after this one; None on the last. A list that asks for what
            few orders have may have it on a page with room left.
    """

    orders: list[Order]
    page: int | None
    page_size: int
    total: int | None
    next_cursor: str | None


_PLACE: Final = msgspec.json.Decoder(PlaceOrder)
_BULK: Final = msgspec.json.Decoder(BulkOrder)
_CANCEL: Final = msgspec.json.Decoder(CancelOrder)
_REPORT: Final = msgspec.json.Decoder(MakeReport)
_CORRECT: Final = msgspec.json.Decoder(CorrectEvent)

_CLEANERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "description": clean_description,
    "reference": clean_reference,
    "metadata": clean_metadata,
}


def read_new_order(
    body: bytes, *, correlation_id: str | None = None, principal: Principal
) -> NewOrder:
    """Return the order that a body describes, with a fresh id.

    Raises:
        Problem: the body is not JSON, or not that of an order.
    """
    given = decode(_PLACE, body, subject="order")
    return _order_of(
        given, body, order_id=new_order_id(), correlation_id=correlation_id, principal=principal
    )


def read_bulk_order(
    row: bytes, *, order_id: UUID, correlation_id: str | None, principal: Principal
) -> tuple[NewOrder, str | None]:
    """Return one order of many, with this id, and its idempotency key.

    Raises:
        Problem: the row is not JSON, or not that of an order.
    """
    given = decode(_BULK, row, subject="order")
    order = _order_of(
        given, row, order_id=order_id, correlation_id=correlation_id, principal=principal
    )
    if given.idempotency_key is not None and not _KEY.fullmatch(given.idempotency_key):
        raise invalid("order", [Fault("idempotency_key", KEY_RULE)])
    return order, given.idempotency_key


_KEY: Final = re.compile(KEY_PATTERN)
KEY_RULE: Final = "must be 1 to 255 visible ASCII characters"


def is_idempotency_key(text: str) -> bool:
    """Tell whether a text may be an idempotency key."""
    return bool(_KEY.fullmatch(text))


def read_cancellation(body: bytes) -> str | None:
    """Return the reason for a cancellation; none where the body is empty.

    Raises:
        Problem: the body is not JSON, or not that of a cancellation.
    """
    if not body:
        return None
    given = decode(_CANCEL, body, subject="cancellation")
    cleaned = _clean("cancellation", body, reason=lambda: clean_message("reason", given.reason))
    reason: str | None = cleaned["reason"]
    return reason


def read_report(body: bytes) -> Report:
    """Return what a body says happened.

    Raises:
        Problem: the body is not JSON, or not that of a report.
    """
    given = decode(_REPORT, body, subject="report")
    now = datetime.now(UTC)
    return Report(
        **_clean(
            "report",
            body,
            status=lambda: _reportable(given.status),
            attempt=lambda: given.attempt,
            message=lambda: clean_message("message", given.message),
            reason=lambda: clean_message("reason", given.reason),
            location=lambda: clean_line("location", given.location, most=MAX_LOCATION),
            source=lambda: clean_line("source", given.source, most=MAX_SOURCE),
            occurred_at=lambda: clean_moment("occurred_at", given.occurred_at, now=now),
        )
    )


def read_correction(body: bytes) -> tuple[int, str, str | None]:
    """Return the sequence of the event that was wrong, what is right, and who says so.

    Raises:
        Problem: the body is not JSON, or not that of a correction.
    """
    given = decode(_CORRECT, body, subject="correction")
    cleaned = _clean(
        "correction",
        body,
        message=lambda: clean_message("message", given.message),
        source=lambda: clean_line("source", given.source, most=MAX_SOURCE),
    )
    return given.sequence, cleaned["message"], cleaned["source"]


def _order_of(
    given: PlaceOrder,
    body: bytes,
    *,
    order_id: UUID,
    correlation_id: str | None,
    principal: Principal,
) -> NewOrder:
    cleaned: dict[str, Any] = {}
    faults = []
    for field, clean in _CLEANERS.items():
        try:
            cleaned[field] = clean(getattr(given, field))
        except FieldError as error:
            faults.append(Fault(error.field, error.reason))
    # A name is followed by a colon: no more colons than names were read, so none came twice.
    names = sum(getattr(given, field) is not None for field in given.__struct_fields__)
    if body.count(b":") > names + len(given.metadata or ()):
        faults += find_repeated_names(body)
    if faults:
        raise invalid("order", faults)
    return NewOrder(
        id=order_id,
        tenant_id=principal.tenant_id,
        flow=given.flow or principal.flow,
        correlation_id=correlation_id,
        **cleaned,
    )


def _reportable(status: Status) -> Status:
    if status not in REPORTABLE:
        raise FieldError("status", f"must be one of {', '.join(sorted(REPORTABLE))}")
    return status


def _clean(subject: str, body: bytes, **fields: Callable[[], Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    faults = find_repeated_names(body)
    for field, clean in fields.items():
        try:
            cleaned[field] = clean()
        except FieldError as error:
            faults.append(Fault(error.field, error.reason))
    if faults:
        raise invalid(subject, faults)
    return cleaned
