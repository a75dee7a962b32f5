"""The lines of a log: where each begins, and what it says."""

import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

#: From the least severe to the most.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
#: How the servers name them where they do it in another way.
OTHER_NAMES: Final = {"notice": "info", "fatal": "critical", "panic": "critical", "#": "warning"}
#: Characters of a line that is no record which are shown.
_LONGEST: Final = 4_000

_LEVEL: Final = re.compile(rb'"level": ?"(\w+)"')
#: How PostgreSQL, RabbitMQ and Redis write a level.
_SERVERS_LEVEL: Final = re.compile(
    rb"\[(debug|info|notice|warning|error|critical)\]|\b(WARNING|ERROR|FATAL|PANIC): | (#) "
)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d| UTC)?")


class Place(NamedTuple):
    """Where a line begins: in which file, whatever its name is now, and after how many bytes."""

    inode: int
    offset: int

    def __str__(self) -> str:
        return f"{self.inode}-{self.offset}"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log; one that is no JSON has its text as its event, and no fields."""

    place: Place
    process: str
    level: str
    logged_at: datetime | None
    event: str
    fields: dict[str, Any]


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


def level_of(line: bytes) -> str:
    """Return how severe a line is; one that does not say is information."""
    if found := _LEVEL.search(line):
        level = found[1].decode()
    elif found := _SERVERS_LEVEL.search(line):
        level = found[found.lastindex or 0].decode().lower()
    else:
        return "info"
    level = OTHER_NAMES.get(level, level)
    return level if level in LEVELS else "info"


def record_of(place: Place, line: bytes) -> Record:
    """Return what a line that begins at a place says."""
    process, text = split_line(line.decode("utf-8", "replace"))
    fields: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            fields = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            fields = {}
    event = str(fields.pop("event", "")) if fields else text[:_LONGEST]
    level = level_of(line)
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
