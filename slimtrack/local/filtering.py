"""Which lines of a log are meant.

A look must read 8 MB quickly. So lines are refused as bytes: whole blocks by their time, most lines
by a text that they do not have, others by a pattern; only the survivors are decoded.
"""

import json
import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from slimtrack.local.records import LEVELS, OTHER_NAMES, Record, level_of

#: How much later than what follows it a line may have been written.
_DISORDER: Final = timedelta(minutes=1)

_TIMESTAMP: Final = re.compile(rb'"timestamp": ?"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
_TIMESTAMP_FIELD: Final = b'"timestamp"'
_SECONDS: Final = len("2026-01-01T00:00:00")


class LineFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which lines are meant: those for which everything holds that is given.

    Attributes:
        level: as severe as this, at least.
        process: written by this process.
        order: with this order's id in it.
        correlation: with this correlation id in it.
        text: with this text in it, in any case.
        since: not written before this time.
        until: not written after it.
    """

    level: str = ""
    process: str = ""
    order: str = ""
    correlation: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


def needles_of(wanted: LineFilter) -> Collection[bytes]:
    """Return texts, in lower case, of which a line has one that is wanted; none if any may be."""
    for exact in (wanted.order, wanted.correlation):
        if exact:
            return {exact.encode().lower()}
    if wanted.text:
        return _texts(wanted.text)
    if wanted.level in LEVELS[LEVELS.index("warning") :]:
        names = LEVELS[LEVELS.index(wanted.level) :]
        others = {name for name, level in OTHER_NAMES.items() if level in names}
        return {each.encode() for each in (*names, *others)}
    return {f"{wanted.process} | ".encode().lower()} if wanted.process else set()


def matcher_of(wanted: LineFilter) -> Callable[[bytes], bool]:
    """Return what tells whether a line may be wanted, without decoding it."""
    texts = [each.encode() for each in (wanted.order, wanted.correlation) if each]
    process = f"{wanted.process} | ".encode() if wanted.process else b""
    needles = _texts(wanted.text)
    # To the second: the record tells exactly.
    earliest, latest = _second(wanted.since), _second(wanted.until)
    least = LEVELS.index(wanted.level) if wanted.level in LEVELS else 0

    def matches(line: bytes) -> bool:
        if (
            line.endswith(b" | ")
            or not line.startswith(process)
            or not all(text in line for text in texts)
        ):
            return False
        if (earliest or latest) and (found := _TIMESTAMP.search(line)):
            second = found[1]
            if second < earliest or (latest and second > latest):
                return False
        if least and LEVELS.index(level_of(line)) < least:
            return False
        if not wanted.text:
            return True
        lower = line.lower()
        return any(needle in lower for needle in needles)

    return matches


def is_before(text: bytes, moment: datetime | None) -> bool:
    """Whether all lines of a text, and so all before them, were written before a time."""
    last = _TIMESTAMP.match(text, text.rfind(_TIMESTAMP_FIELD)) if moment else None
    return last is not None and last[1] < _second(moment, later=-_DISORDER)


def is_after(text: bytes, moment: datetime | None) -> bool:
    """Whether all lines of a text were written after a time."""
    latest = _second(moment, later=_DISORDER)
    first = _TIMESTAMP.search(text) if latest else None
    return first is not None and first[1] > latest


def is_in_time(record: Record, wanted: LineFilter) -> bool:
    """Whether a record is of the time that is meant; of unknown time, only where none is."""
    at = record.logged_at
    if at is None:
        return not (wanted.since or wanted.until)
    return (wanted.since is None or at >= wanted.since) and (
        wanted.until is None or at <= wanted.until
    )


def _texts(text: str) -> Collection[bytes]:
    """Return how a text is written in a line, in lower case."""
    # In a record a quotation mark, or a letter beyond ASCII, is written in another way.
    return {each.lower().encode() for each in (text, json.dumps(text)[1:-1])}


def _second(moment: datetime | None, *, later: timedelta = timedelta()) -> bytes:
    """Return the second of a time, as records have it; nothing for none."""
    if moment is None:
        return b""
    try:
        return (moment.astimezone(UTC) + later).isoformat()[:_SECONDS].encode()
    except OverflowError:  # in the first year, or the last
        return b""
