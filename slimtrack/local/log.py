"""The log of a stack, read from its end: what was written last comes first."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

#: Files that are kept of those that were put aside.
KEPT: Final = 2
#: Bytes that one look reads, at most, and at a time.
MOST_BYTES: Final = 8_000_000
_BLOCK: Final = 262_144
#: Bytes that are looked at for the last line that is wanted.
_NEWEST: Final = 262_144
#: How much later than what follows it a line may have been written.
_DISORDER: Final = timedelta(minutes=1)
#: Characters of a line that is no record which are shown.
_LONGEST: Final = 4_000
#: From the least severe to the most.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_TIMESTAMP: Final = re.compile(rb'"timestamp": ?"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
_TIMESTAMP_FIELD: Final = b'"timestamp"'
_SECONDS: Final = len("2026-01-01T00:00:00")
_LEVEL: Final = re.compile(rb'"level": ?"(\w+)"')
#: How PostgreSQL, RabbitMQ and Redis write a level.
_SERVERS_LEVEL: Final = re.compile(
    rb"\[(debug|info|notice|warning|error|critical)\]|\b(WARNING|ERROR|FATAL|PANIC): | (#) "
)
_SEVERE: Final = {"notice": "info", "fatal": "critical", "panic": "critical", "#": "warning"}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d| UTC)?")


class Place(NamedTuple):
    """Where a line begins: in which file, whatever its name is now, and after how many bytes."""

    inode: int
    offset: int

    def __str__(self) -> str:
        return f"{self.inode}-{self.offset}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log; one that is no JSON has its text as its event, and no fields."""

    place: Place
    process: str
    level: str
    logged_at: datetime | None
    event: str
    fields: dict[str, Any]


class Records(NamedTuple):
    """A page of the log; ``older`` is where the next one begins, None where there is none."""

    records: list[Record]
    older: Place | None


def log_path(directory: Path) -> Path:
    """Return where the stack of a state directory logs."""
    return directory / "stack.log"


def split_line(text: str) -> tuple[str, str]:
    """Return the process's name and its line."""
    name, _, line = text.rstrip("\n").partition(" | ")
    return name, line


def place_of(text: str) -> Place | None:
    """Return the place of which this is the text; None if it is none."""
    inode, _, offset = text.partition("-")
    if not all(each.isascii() and each.isdecimal() and len(each) < 20 for each in (inode, offset)):
        return None
    return Place(int(inode), int(offset))


def read_records(
    directory: Path,
    wanted: Wanted,
    *,
    before: Place | None = None,
    limit: int,
    most_bytes: int = MOST_BYTES,
) -> Records:
    """Return the last lines that are wanted, the last of all first.

    Args:
        directory: the state directory.
        wanted: which lines.
        before: only lines that were written before this one.
        limit: lines, at most.
        most_bytes: so much of the log is looked at, at most.
    """
    found: list[Record] = []
    matches = _matcher(wanted)
    for place, line in _lines(directory, wanted, before=before, most_bytes=most_bytes):
        if matches(line):
            record = _record(place, line)
            if _in_time(record, wanted):
                if len(found) == limit:
                    return Records(found, found[-1].place)
                found.append(record)
    return Records(found, None)


def newest_place(directory: Path, wanted: Wanted) -> Place | None:
    """Return where the last line begins that is wanted; None where it is none of the last ones."""
    found = read_records(directory, wanted, limit=1, most_bytes=_NEWEST).records
    return found[0].place if found else None


def _lines(
    directory: Path, wanted: Wanted, *, before: Place | None, most_bytes: int
) -> Iterator[tuple[Place, bytes]]:
    """Yield whole lines that may be wanted, the last first."""
    path = log_path(directory)
    needles = _needles(wanted)
    latest = _second(wanted.until, later=_DISORDER)
    left = most_bytes
    for each in (path, *(path.with_name(f"{path.name}.{n}") for n in range(1, KEPT + 1))):
        try:
            file = each.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            inode, end = status.st_ino, status.st_size
            if before:
                if inode != before.inode:
                    continue
                end, before = min(end, before.offset), None
            floor = max(0, end - left)
            left -= end - floor
            for start, text in _blocks(file, floor=floor, end=end):
                if _is_before(text, wanted.since):
                    return
                if latest and (first := _TIMESTAMP.search(text)) and first[1] > latest:
                    continue
                for offset, line in _lines_of(text, needles):
                    yield Place(inode, start + offset), line
        if left <= 0:
            return


def _blocks(file: BinaryIO, *, floor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of a file, many at a time, the last first, and where they begin."""
    position, rest = end, b""
    is_last = True
    while position > floor:
        start = max(floor, position - _BLOCK)
        file.seek(start)
        rest, feed, text = (file.read(position - start) + rest).partition(b"\n")
        position = start
        if not feed:
            continue
        if is_last:  # what follows the last line feed is empty, or is being written
            text = text[: text.rfind(b"\n") + 1].removesuffix(b"\n")
            is_last = False
        if text:
            yield start + len(rest) + 1, text
    if floor == 0 and rest and not is_last:
        yield 0, rest


def _lines_of(text: bytes, needles: Collection[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield those lines that have any of the needles, the last first, and where they begin."""
    if not needles:
        offset = len(text) + 1
        for line in reversed(text.split(b"\n")):
            offset -= len(line) + 1
            yield offset, line
        return
    # Not line by line: most have none.
    lower = text.lower()
    starts = set()
    for needle in needles:
        found = lower.find(needle)
        while found >= 0:
            starts.add(lower.rfind(b"\n", 0, found) + 1)
            end = lower.find(b"\n", found)
            found = lower.find(needle, end) if end >= 0 else -1
    for start in sorted(starts, reverse=True):
        end = text.find(b"\n", start)
        yield start, text[start:] if end < 0 else text[start:end]


def _needles(wanted: Wanted) -> Collection[bytes]:
    """Return texts, in lower case, of which a line has one that is wanted; none if any may be."""
    for exact in (wanted.order, wanted.correlation):
        if exact:
            return {exact.encode().lower()}
    if wanted.text:
        return _texts(wanted.text)
    if wanted.level in LEVELS[LEVELS.index("warning") :]:
        names = LEVELS[LEVELS.index(wanted.level) :]
        others = {name for name, level in _SEVERE.items() if level in names}
        return {each.encode() for each in (*names, *others)}
    return {f"{wanted.process} | ".encode().lower()} if wanted.process else set()


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


def _is_before(text: bytes, moment: datetime | None) -> bool:
    """Whether all lines of a text, and so all before them, were written before a time."""
    last = _TIMESTAMP.match(text, text.rfind(_TIMESTAMP_FIELD)) if moment else None
    return last is not None and last[1] < _second(moment, later=-_DISORDER)


def _matcher(wanted: Wanted) -> Callable[[bytes], bool]:
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
        if least and LEVELS.index(_level_of(line)) < least:
            return False
        if not wanted.text:
            return True
        lower = line.lower()
        return any(needle in lower for needle in needles)

    return matches


def _level_of(line: bytes) -> str:
    if found := _LEVEL.search(line):
        level = found[1].decode()
    elif found := _SERVERS_LEVEL.search(line):
        level = found[found.lastindex or 0].decode().lower()
    else:
        return "info"
    level = _SEVERE.get(level, level)
    return level if level in LEVELS else "info"


def _record(place: Place, line: bytes) -> Record:
    process, text = split_line(line.decode("utf-8", "replace"))
    fields: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            fields = {}
    event = str(fields.pop("event", "")) if fields else text[:_LONGEST]
    level = _level_of(line)
    fields.pop("level", None)
    return Record(
        place=place,
        process=process,
        level=level,
        logged_at=_time_in(str(fields.pop("timestamp", "")) if fields else text[:40]),
        event=event,
        fields=fields,
    )


def _time_in(text: str) -> datetime | None:
    found = _TIME.search(text)
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found[1])
        zone = found[2] or ""
        if zone.startswith(("+", "-")):
            return datetime.fromisoformat(found[0])
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC)


def _in_time(record: Record, wanted: Wanted) -> bool:
    at = record.logged_at
    if at is None:
        return not (wanted.since or wanted.until)
    return (wanted.since is None or at >= wanted.since) and (
        wanted.until is None or at <= wanted.until
    )
