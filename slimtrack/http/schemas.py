"""What requests may say and how answers look; the rules of an order's fields are the domain's."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from slimtrack.domain.errors import FieldError
from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import NewOrder, new_order_id
from slimtrack.domain.rules import clean_description, clean_metadata, clean_reference
from slimtrack.http import problems
from slimtrack.http.problems import Fault

MAX_PAGE: Final = 1_000_000_000  # times MAX_PAGE_SIZE is still an OFFSET that PostgreSQL takes
MAX_PAGE_SIZE: Final = 100


class PlaceOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/orders``."""

    description: str
    reference: str | None = None
    metadata: dict[str, Any] | None = None


class Page(NamedTuple):
    """Which part of a list is asked for."""

    page: int
    page_size: int


class History(msgspec.Struct):
    """The body of an answer with the events of one order, oldest first."""

    order_id: UUID
    events: Sequence[OrderEvent]


_decode: Final = msgspec.json.Decoder(PlaceOrder).decode

_CLEANERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "description": clean_description,
    "reference": clean_reference,
    "metadata": clean_metadata,
}


def read_new_order(body: bytes, *, correlation_id: str) -> NewOrder:
    """Return the order that a body describes, with a fresh id.

    Raises:
        Problem: the body is not JSON, or not that of an order.
    """
    try:
        given = _decode(body)
    except msgspec.ValidationError as error:
        raise problems.invalid_order([_fault_of(error)]) from error
    except (ValueError, RecursionError) as error:
        raise problems.malformed_body(_explain(body, error)) from error
    cleaned: dict[str, Any] = {}
    faults = []
    for field, clean in _CLEANERS.items():
        try:
            cleaned[field] = clean(getattr(given, field))
        except FieldError as error:
            faults.append(Fault(error.field, error.reason))
    # A name is followed by a colon: no more colons than names were read, so none came twice.
    names = 1 + (given.reference is not None) + (given.metadata is not None)
    if body.count(b":") > names + len(given.metadata or ()):
        faults += _find_repeated_names(body)
    if faults:
        raise problems.invalid_order(faults)
    return NewOrder(id=new_order_id(), correlation_id=correlation_id, **cleaned)


def read_page(parameters: Mapping[str, str | list[str]]) -> Page:
    """Return the page that query parameters ask for.

    Raises:
        Problem: a parameter is unknown, repeated or not a number in range.
    """
    faults = [
        Fault(name[:100], "is not a parameter here; page and page_size are")
        for name in parameters
        if name not in Page._fields
    ]
    page = _whole_number(parameters, "page", default=1, most=MAX_PAGE, faults=faults)
    page_size = _whole_number(
        parameters, "page_size", default=10, most=MAX_PAGE_SIZE, faults=faults
    )
    if faults:
        raise problems.invalid_query(faults)
    return Page(page, page_size)


def read_order_id(text: str) -> UUID:
    """Return the id that is part of a path.

    Raises:
        Problem: it is not an id in the one form that we write.
    """
    try:
        order_id = UUID(text)
    except ValueError:
        order_id = None
    # UUID() also takes braces, prefixes, misplaced hyphens and the digits of other scripts.
    if order_id is None or str(order_id) != text.lower():
        raise problems.order_not_found(
            "An order's id has 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12,"
            " as in 01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8."
        )
    return order_id


def _whole_number(
    parameters: Mapping[str, str | list[str]],
    name: str,
    *,
    default: int,
    most: int,
    faults: list[Fault],
) -> int:
    text = parameters.get(name, str(default))
    if isinstance(text, list):
        faults.append(Fault(name, "must come once"))
        return default
    # int() also takes signs, spaces, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= most):
        faults.append(Fault(name, f"must be a whole number from 1 to {most}"))
        return default
    return int(text)


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_PATH: Final = re.compile(r" - at `\$\.?(\w*).*`$")


def _fault_of(error: msgspec.ValidationError) -> Fault:
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        return Fault(unknown[1][:100], "is not a field that a new order may have")
    if missing := _MISSING.match(text):
        return Fault(missing[1], "is required")
    path = _PATH.search(text)
    reason = _PATH.sub("", text).replace("`", "")
    reason = reason[:1].lower() + reason[1:]
    return (
        Fault(path[1], f"is wrong: {reason}") if path else Fault("", f"The body is wrong: {reason}")
    )


_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _explain(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "The body is empty."
    if body.startswith(codecs.BOM_UTF8):
        return "The body starts with a byte order mark; JSON has none."
    if isinstance(error, RecursionError):
        return "The body is nested too deeply."
    if isinstance(error, UnicodeDecodeError):
        return "The body is not UTF-8."
    hint = " A \\ud800 to \\udfff must be one of a pair." if _HALF_PAIR.search(body) else ""
    return f"The body is not JSON: {error}.{hint}"


def _find_repeated_names(body: bytes) -> list[Fault]:
    faults: list[Fault] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = Counter(name for name, _ in pairs)
        faults.extend(
            Fault(name[:100], "must come once") for name, count in names.items() if count > 1
        )

    try:
        json.loads(body, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise problems.malformed_body(_explain(body, error)) from error
    return faults
