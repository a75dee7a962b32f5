"""Which dead letters a page is about: read from its address, and written into its links."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.order import STAGES, Status

T = TypeVar("T")

_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
#: The filters of the page.
_FIELDS: Final = ("stage", "error", "type", "group", "order", "newer", "older", "discarded")
_LONGEST: Final = 200


class Filters(NamedTuple):
    """What was asked for, what of it can be used, and which filters cannot."""

    fields: Mapping[str, str]
    selection: Selection
    wrong: frozenset[str]

    @property
    def query(self) -> str:
        """The same as a part of an address."""
        return urlencode(self.fields)


def read_filters(get: Callable[[str], str | None]) -> Filters:
    """Read the filters of a page from its address, or from a form."""
    fields = {name: text for name in _FIELDS if (text := (get(name) or "").strip()[:_LONGEST])}
    wrong = set()

    def read(name: str, reader: Callable[[str], T]) -> T | None:
        if name not in fields:
            return None
        try:
            return reader(fields[name])
        except (ValueError, KeyError):
            wrong.add(name)
            return None

    selection = Selection(
        stage=read("stage", _stage),
        error=read("error", _text),
        error_type=read("type", _text),
        fingerprint=read("group", _text),
        order_id=read("order", UUID),
        newer_than=read("newer", _age),
        older_than=read("older", _age),
        discarded="discarded" in fields,
    )
    return Filters(fields, selection, frozenset(wrong))


def _stage(text: str) -> Status:
    if text not in STAGES:
        raise ValueError(text)
    return Status(text)


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)
    return text


def _age(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if not found:
        raise ValueError(text)
    return float(int(found[1]) * _UNITS[found[2]])
