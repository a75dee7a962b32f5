"""What a caller may store with an order: the one place that knows, whoever the caller is."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from slimtrack.domain.errors import FieldError
from slimtrack.domain.order import (
    MAX_DESCRIPTION,
    MAX_MESSAGE,
    MAX_METADATA_BYTES,
    MAX_REFERENCE,
)

#: Objects and lists inside each other; far below what any reader of JSON gives up at.
MAX_METADATA_DEPTH: Final = 32

#: When a report can be of, at the earliest, and how far the clocks of callers may be ahead.
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER: Final = timedelta(minutes=5)

# A larger float would come back from PostgreSQL as an integer with hundreds of digits.
_LEAST_NUMBER: Final = -(2**63)
_MOST_NUMBER: Final = 2**63 - 1

# The C0 and C1 control characters (Unicode's category Cc) do not belong into text that people
# read; a description may have lines and tabs, a reference is one line. Halves of a surrogate pair
# are not characters at all, and PostgreSQL takes neither them nor NUL.
_NOT_IN_DESCRIPTION: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_REFERENCE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_IN_METADATA: Final = re.compile("[\x00\ud800-\udfff]")


def clean_description(text: str) -> str:
    """Return the description without white space around it.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    return _clean("description", text, most=MAX_DESCRIPTION, unwanted=_NOT_IN_DESCRIPTION)


def clean_reference(text: str | None) -> str | None:
    """Return the reference without white space around it; None stays None.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    if text is None:
        return None
    return _clean("reference", text, most=MAX_REFERENCE, unwanted=_NOT_IN_REFERENCE)


def clean_metadata(value: dict[str, Any] | None) -> dict[str, Any]:
    """Return the metadata, a JSON object; None becomes an empty one.

    Raises:
        FieldError: it is too large or too deep, or has a value that PostgreSQL or some reader of
            JSON does not take.
    """
    if value is None:
        return {}
    _check_value(value, depth=1)
    size = len(msgspec.json.encode(value))
    if size > MAX_METADATA_BYTES:
        raise FieldError(
            "metadata", f"must be at most {MAX_METADATA_BYTES} bytes of JSON, not {size}"
        )
    return value


def clean_line(field: str, text: str | None, *, most: int) -> str | None:
    """Return one line of text without white space around it; None stays None.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    return None if text is None else clean_text(field, text, most=most)


def clean_text(field: str, text: str, *, most: int) -> str:
    """Return one line of text without white space around it.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    return _clean(field, text, most=most, unwanted=_NOT_IN_REFERENCE)


def clean_message(field: str, text: str | None) -> str | None:
    """Return a message for people without white space around it; None stays None.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    if text is None:
        return None
    return _clean(field, text, most=MAX_MESSAGE, unwanted=_NOT_IN_DESCRIPTION)


def clean_moment(field: str, moment: datetime | None, *, now: datetime) -> datetime | None:
    """Return when something happened; None stays None.

    Raises:
        FieldError: it has no time zone, lies in the future (clocks may differ by five minutes),
            or before there was anything to report.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise FieldError(field, "must have a time zone, as in 2026-01-31T12:00:00Z")
    if moment > now + _CLOCKS_DIFFER:
        raise FieldError(field, "must not be in the future")
    if moment < _EARLIEST:
        raise FieldError(field, f"must not be before {_EARLIEST.year}")
    return moment


def _clean(field: str, text: str, *, most: int, unwanted: re.Pattern[str]) -> str:
    text = text.strip()
    # A zero-width space is no white space to strip(), yet nobody sees it. Most texts begin with a
    # letter or digit, which is quicker to see.
    if not text[:1].isalnum() and not any(
        character.isprintable() and not character.isspace() for character in text
    ):
        raise FieldError(field, "must not be empty")
    if len(text) > most:
        raise FieldError(field, f"must have at most {most} characters, not {len(text)}")
    if found := unwanted.search(text):
        raise FieldError(field, _unwanted(found))
    return text


def _check_value(value: Any, *, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth > MAX_METADATA_DEPTH:
            raise FieldError("metadata", f"must be at most {MAX_METADATA_DEPTH} levels deep")
        for each in value:
            _check_value(each, depth=depth + 1)
        if isinstance(value, dict):
            for each in value.values():
                _check_value(each, depth=depth + 1)
    elif reason := _fault_of(value):
        raise FieldError("metadata", reason)


def _fault_of(value: str | float | None) -> str | None:
    if isinstance(value, str):
        found = _NOT_IN_METADATA.search(value)
        return _unwanted(found) if found else None
    # NaN is in no range.
    if isinstance(value, (int, float)) and not _LEAST_NUMBER <= value <= _MOST_NUMBER:
        return "must have numbers within 64 bits only; write others as strings"
    return None


def _unwanted(found: re.Match[str]) -> str:
    return f"must not have the character U+{ord(found[0]):04X}"
