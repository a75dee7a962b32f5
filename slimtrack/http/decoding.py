"""How JSON is read, and how it is said what is wrong with it."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from slimtrack.http import problems
from slimtrack.http.problems import Fault

T = TypeVar("T", bound=msgspec.Struct)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, subject: str) -> T:
    """Return what a body says.

    Raises:
        Problem: the body is not JSON, or not that of a ``subject``.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(subject, [_fault_of(error, subject)]) from error
    except (ValueError, RecursionError) as error:
        raise problems.malformed_body(explain(body, error)) from error


def invalid(subject: str, faults: Sequence[Fault]) -> problems.Problem:
    """Say which fields of a ``subject`` are wrong."""
    return problems.invalid(f"invalid-{subject}", faults)


_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def explain(body: bytes, error: Exception) -> str:
    """Say why a body is not JSON, given what its reader said."""
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


def find_repeated_names(body: bytes) -> list[Fault]:
    """Return the names that come twice in an object of a body, which readers of JSON ignore.

    Raises:
        Problem: the body is not JSON.
    """
    faults: list[Fault] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = Counter(name for name, _ in pairs)
        faults.extend(
            Fault(name[:100], "must come once") for name, count in names.items() if count > 1
        )

    try:
        json.loads(body, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise problems.malformed_body(explain(body, error)) from error
    return faults


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_PATH: Final = re.compile(r" - at `\$\.?(\w*).*`$")


def _fault_of(error: msgspec.ValidationError, subject: str) -> Fault:
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        what = "new order" if subject == "order" else subject
        return Fault(unknown[1][:100], f"is not a field that a {what} may have")
    if missing := _MISSING.match(text):
        return Fault(missing[1], "is required")
    path = _PATH.search(text)
    reason = _PATH.sub("", text).replace("`", "")
    reason = reason[:1].lower() + reason[1:]
    return (
        Fault(path[1], f"is wrong: {reason}") if path else Fault("", f"The body is wrong: {reason}")
    )
