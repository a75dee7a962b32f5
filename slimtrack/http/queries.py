"""What paths, query parameters and headers may say."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import falcon

from slimtrack.domain.listing import Listing
from slimtrack.domain.order import MAX_REFERENCE, Status, first_id_of
from slimtrack.domain.tracking_code import parse_code
from slimtrack.http import problems
from slimtrack.http.problems import Fault

T = TypeVar("T")

#: Orders that pages by number lead to: each page has to pass all before it.
MAX_DEPTH: Final = 10_000
MAX_PAGE_SIZE: Final = 100
PAGE_SIZE: Final = 10
#: Names and values of the metadata that one list may ask for, and the characters of one of them.
MOST_METADATA: Final = 5
MAX_METADATA_PAIR: Final = 500
_NOT_IN_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


class Page(NamedTuple):
    """Which part of a list is asked for: by number, or without one after a cursor."""

    page: int | None
    page_size: int


class ListQuery(NamedTuple):
    """A list that is asked for, and the part of it."""

    listing: Listing
    page: Page


#: Every parameter of a list, and what it is.
PARAMETERS: Final = (
    *("status", "reference", "tracking_code", "metadata"),
    *("created_after", "created_before", "updated_after", "updated_before"),
    *("sort", "page", "page_size", "limit", "cursor"),
)


def read_list_query(
    parameters: Mapping[str, str | list[str]], *, tenant_id: int | None
) -> ListQuery:
    """Return the list that query parameters ask for; without a tenant, of anybody's orders.

    Raises:
        Problem: parameters are unknown, repeated, out of range or exclude each other.
    """
    reader = _Reader(parameters)
    statuses = reader.many("status", _status)
    metadata = reader.many("metadata", _pair)
    if len(metadata) > MOST_METADATA:
        reader.faults.append(Fault("metadata", f"must come at most {MOST_METADATA} times"))
    if len(dict(metadata)) < len(metadata):
        reader.faults.append(Fault("metadata", "must name each name once"))
    oldest_first = reader.one("sort", _sort) or False
    after = reader.one("created_after", _moment)
    before = reader.one("created_before", _moment)
    bounds: dict[str, UUID] = {}
    if after:
        bounds["after"] = UUID(int=max(0, first_id_of(after).int - 1))
    if before:
        bounds["before"] = first_id_of(before)
    cursor = reader.one("cursor", _cursor)
    if cursor and oldest_first:
        bounds["after"] = max(cursor, bounds.get("after", cursor))
    elif cursor:
        bounds["before"] = min(cursor, bounds.get("before", cursor))
    listing = Listing(
        tenant_id=tenant_id,
        statuses=frozenset(statuses) or frozenset(Status),
        reference=reader.one("reference", _reference),
        tracking_number=reader.one("tracking_code", _tracking_code),
        updated_after=reader.one("updated_after", _moment),
        updated_before=reader.one("updated_before", _moment),
        metadata=dict(metadata),
        oldest_first=oldest_first,
        **bounds,
    )
    page = reader.page()
    if reader.faults:
        raise problems.invalid("invalid-query", reader.faults)
    return ListQuery(listing, page)


def read_form(parameters: Mapping[str, str | list[str]], *, forms: tuple[str, ...]) -> str | None:
    """Return which of its forms a document is asked for in; None if it is not said.

    Raises:
        Problem: the form is unknown, or there are other parameters.
    """
    reader = _Reader(parameters, known=("format",))

    def form(text: str) -> str:
        if text not in forms:
            raise ValueError(f"must be one of {', '.join(forms)}")
        return text

    chosen = reader.one("format", form)
    if reader.faults:
        raise problems.invalid("invalid-query", reader.faults)
    return chosen


def link_to_next(req: falcon.Request, page: Page, *, cursor: str, by_number: bool) -> str:
    """Return the Link to what follows a page: its number, or its cursor where that leads further.

    Args:
        req: the request for the page.
        page: the page.
        cursor: asks for what follows.
        by_number: whether the next number would show the same.
    """
    query = dict(req.params)
    if page.page and by_number and (page.page + 1) * page.page_size <= MAX_DEPTH:
        query["page"] = str(page.page + 1)
    else:
        query |= {"cursor": cursor, "limit": str(page.page_size)}
        query.pop("page", None)
        query.pop("page_size", None)
    return f'<{req.path}?{urlencode(query, doseq=True)}>; rel="next"'


def make_cursor(order_id: UUID) -> str:
    """Return the cursor that asks for what follows an order in a list."""
    return base64.urlsafe_b64encode(order_id.bytes).decode().rstrip("=")


def read_order(text: str) -> UUID | int:
    """Return the id or tracking number that is part of a path.

    Raises:
        Problem: it is neither an id in the one form that we write, nor a tracking code.
    """
    try:
        order_id = UUID(text)
    except ValueError:
        order_id = None
    # UUID() also takes braces, prefixes, misplaced hyphens and the digits of other scripts.
    if order_id is not None and str(order_id) == text.lower():
        return order_id
    number = parse_code(text)
    if number is None:
        raise problems.order_not_found(
            "An order's id has 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12,"
            " as in 01938a5e-7c1d-7b8e-9a57-3f6d2c40b1e8; a tracking code is one like"
            " SL-7K3F-9QXM-2VPD-A, and one wrong character makes it none."
        )
    return number


_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_VERSION: Final = re.compile(r'"([1-9][0-9]{0,9})"')


def etag_of(version: int) -> str:
    """Return the entity tag of an order's version."""
    return f'"{version}"'


def matches(req: falcon.Request, etag: str) -> bool:
    """Tell whether the caller has this version already (If-None-Match, RFC 9110, 13.1.2)."""
    header = req.get_header("If-None-Match")
    if header is None:
        return False
    known = [tag.removeprefix("W/") for tag in _ETAG.findall(header)]
    return header.strip() == "*" or etag in known


def read_version(req: falcon.Request) -> int | None:
    """Return the version that a change is meant for (If-Match); None for any.

    Raises:
        Problem: the header is not an entity tag that we gave.
    """
    header = req.get_header("If-Match")
    if header is None or header.strip() == "*":
        return None
    found = _VERSION.fullmatch(header.strip())
    if not found:
        raise problems.invalid_header("If-Match", 'must be an ETag of this order, as in "3", or *')
    return int(found[1])


class _Reader:
    """Reads parameters, and keeps all that is wrong with them."""

    def __init__(
        self, parameters: Mapping[str, str | list[str]], *, known: tuple[str, ...] = PARAMETERS
    ) -> None:
        self._parameters = parameters
        self.faults = [
            Fault(name[:100], f"is not a parameter here; {', '.join(known)} are")
            for name in parameters
            if name not in known
        ]

    def one(self, name: str, read: Callable[[str], T]) -> T | None:
        text = self._parameters.get(name)
        if isinstance(text, list):
            self.faults.append(Fault(name, "must come once"))
            return None
        return None if text is None else self._read(name, text, read)

    def many(self, name: str, read: Callable[[str], T]) -> list[T]:
        given = self._parameters.get(name, [])
        texts = given if isinstance(given, list) else [given]
        found = [self._read(name, text, read) for text in texts]
        return [value for value in found if value is not None]

    def page(self) -> Page:
        by_cursor = [name for name in ("cursor", "limit") if name in self._parameters]
        by_number = [name for name in ("page", "page_size") if name in self._parameters]
        if by_cursor and by_number:
            self.faults.append(
                Fault(by_number[0], f"does not go with {by_cursor[0]}: page by number or by cursor")
            )
        if by_cursor:
            return Page(None, self.one("limit", _whole_number(MAX_PAGE_SIZE)) or PAGE_SIZE)
        number = self.one("page", _whole_number(MAX_DEPTH)) or 1
        size = self.one("page_size", _whole_number(MAX_PAGE_SIZE)) or PAGE_SIZE
        if number * size > MAX_DEPTH:
            rule = f"times page_size must be at most {MAX_DEPTH}: use the cursor to go further"
            self.faults.append(Fault("page", rule))
        return Page(number, size)

    def _read(self, name: str, text: str, read: Callable[[str], T]) -> T | None:
        try:
            return read(text)
        except ValueError as error:
            self.faults.append(Fault(name, str(error)))
            return None


def _whole_number(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # int() also takes signs, spaces, underscores and the digits of other scripts.
        if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 1 <= int(text) <= most):
            raise ValueError(f"must be a whole number from 1 to {most}")
        return int(text)

    return read


def _status(text: str) -> Status:
    if text not in set(Status):
        raise ValueError(f"must be one of {', '.join(Status)}")
    return Status(text)


def _sort(text: str) -> bool:
    if text not in {"created_at", "-created_at"}:
        raise ValueError("must be created_at (oldest first) or -created_at (newest first)")
    return text == "created_at"


_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _moment(text: str) -> datetime:
    rule = "must be a time with its zone, as in 2026-01-31T12:00:00Z (a + is written %2B)"
    if not _MOMENT.fullmatch(text):
        raise ValueError(rule)
    try:
        moment = datetime.fromisoformat(text.upper())
        moment.timestamp()  # the years 1 and 9999 leave the range in some zones
    except (ValueError, OverflowError):
        raise ValueError(rule) from None
    return moment


def _cursor(text: str) -> UUID:
    try:
        return UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise ValueError("must be one that an earlier answer gave") from None


def _reference(text: str) -> str:
    if not 1 <= len(text) <= MAX_REFERENCE or _NOT_IN_TEXT.search(text):
        raise ValueError(f"must have 1 to {MAX_REFERENCE} characters")
    return text


def _tracking_code(text: str) -> int:
    number = parse_code(text)
    if number is None:
        raise ValueError("must be a tracking code; one wrong character makes it none")
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals) or _NOT_IN_TEXT.search(text):
        raise ValueError("must be NAME=VALUE, as in metadata=city=Berlin")
    if len(text) > MAX_METADATA_PAIR:
        raise ValueError(f"must have at most {MAX_METADATA_PAIR} characters, not {len(text)}")
    return name, value
