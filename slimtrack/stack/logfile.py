"""The one log file of a stack: every line of every process, with the process's name before it."""

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from slimtrack.local.log import KEPT, log_path
from slimtrack.local.records import split_line

#: Bytes of the file before it is put aside.
_MAX_BYTES: Final = 10_000_000
#: Seconds between two looks at a file that is followed.
_INTERVAL: Final = 0.2


class LogFile:
    """Writes lines; any thread may."""

    def __init__(self, directory: Path) -> None:
        self._handler = RotatingFileHandler(
            log_path(directory), maxBytes=_MAX_BYTES, backupCount=KEPT, encoding="utf-8"
        )

    def write(self, name: str, line: str) -> None:
        """Add a line of a process."""
        self._handler.handle(logging.makeLogRecord({"msg": f"{name} | {line}"}))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


def read_last(directory: Path, *, process: str | None, count: int) -> list[tuple[str, str]]:
    """Return the last lines, of all processes or of one; none where nothing was logged."""
    try:
        with log_path(directory).open(encoding="utf-8", errors="replace") as file:
            lines = (split_line(text) for text in file)
            return list(deque((each for each in lines if process in (None, each[0])), count))
    except FileNotFoundError:
        return []


def follow(directory: Path, *, process: str | None) -> Iterator[tuple[str, str]]:
    """Yield lines as they are written, without end; goes on in the next file."""
    path = log_path(directory)
    while not path.exists():
        time.sleep(_INTERVAL)
    file = path.open(encoding="utf-8", errors="replace")
    file.seek(0, 2)
    part = ""
    while True:
        part += file.readline()
        if part.endswith("\n"):
            name, line = split_line(part)
            part = ""
            if process in (None, name):
                yield name, line
        elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            file.close()
            file = path.open(encoding="utf-8", errors="replace")
        else:
            time.sleep(_INTERVAL)
