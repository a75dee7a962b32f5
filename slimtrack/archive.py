"""Files of pruned orders: JSON lines, compressed by zstd."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import zstandard

from slimtrack.domain.archive import ArchivedOrder
from slimtrack.domain.errors import SlimTrackError


class ArchiveError(SlimTrackError):
    """An archive cannot be written or read."""


class _Identity(msgspec.Struct):
    id: UUID
    version: int


_IDENTITY = msgspec.json.Decoder(_Identity)


@contextmanager
def written(path: Path) -> Iterator[Callable[[ArchivedOrder], None]]:
    """Yield what writes an order; the file is there when all of it is on the disk, or not at all.

    Raises:
        ArchiveError: it cannot be written, or is there already.
    """
    part = part_of(path)
    try:
        if path.exists():
            raise FileExistsError(f"{path} is there already")
        with part.open("xb") as file, _removed_if_left(part):
            with zstandard.ZstdCompressor(write_checksum=True).stream_writer(
                file, closefd=False
            ) as stream:
                yield lambda order: _write(stream, order)
            file.flush()
            os.fsync(file.fileno())
            part.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _removed_if_left(part: Path) -> Iterator[None]:
    try:
        yield
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return where a file is until it is complete."""
    return path.with_name(f"{path.name}.part")


def read_versions(path: Path) -> Iterator[tuple[UUID, int]]:
    """Read which orders an archive holds, and of which version.

    Raises:
        ArchiveError: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            for line in io.BufferedReader(stream):
                found = _IDENTITY.decode(line)
                yield found.id, found.version
    except (OSError, zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ArchiveError(f"{path} cannot be read: {error}.") from error


def _write(stream: zstandard.ZstdCompressionWriter, order: ArchivedOrder) -> None:
    stream.write(msgspec.json.encode(order) + b"\n")


def _sync(directory: Path) -> None:
    """Let the name of a new file survive a crash of the system."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
