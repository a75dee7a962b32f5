"""The log of a stack, read from its end: what was written last comes first."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from slimtrack.local.filtering import (
    LineFilter,
    is_after,
    is_before,
    is_in_time,
    matcher_of,
    needles_of,
)
from slimtrack.local.records import Place, Record, record_of

#: Files that are kept of those that were put aside.
KEPT: Final = 2
#: Bytes that one look reads, at most, and at a time.
MOST_BYTES: Final = 8_000_000
_BLOCK: Final = 262_144
#: Bytes that are looked at for the last line that is wanted.
_NEWEST: Final = 262_144


class Records(NamedTuple):
    """A page of the log; ``older`` is where the next one begins, None where there is none."""

    records: list[Record]
    older: Place | None


def log_path(directory: Path) -> Path:
    """Return where the stack of a state directory logs."""
    return directory / "stack.log"


def read_records(
    directory: Path,
    wanted: LineFilter,
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
    matches = matcher_of(wanted)
    for place, line in _lines(directory, wanted, before=before, most_bytes=most_bytes):
        if matches(line):
            record = record_of(place, line)
            if is_in_time(record, wanted):
                if len(found) == limit:
                    return Records(found, found[-1].place)
                found.append(record)
    return Records(found, None)


def newest_place(directory: Path, wanted: LineFilter) -> Place | None:
    """Return where the last line begins that is wanted; None where it is none of the last ones."""
    found = read_records(directory, wanted, limit=1, most_bytes=_NEWEST).records
    return found[0].place if found else None


def _lines(
    directory: Path, wanted: LineFilter, *, before: Place | None, most_bytes: int
) -> Iterator[tuple[Place, bytes]]:
    """Yield whole lines that may be wanted, the last first."""
    path = log_path(directory)
    needles = needles_of(wanted)
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
                if is_before(text, wanted.since):
                    return
                if is_after(text, wanted.until):
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
