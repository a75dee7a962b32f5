"""The use case of pruning: finished orders of long ago leave the tables, and are kept in files.

A partition of events is pruned in steps, each of which may be repeated:

1. Its finished orders are written to a file.
2. What the file holds, as it is read back, is deleted from ``orders`` and ``order_statuses``.
3. The partition is dropped. Where too many orders are left, and in the default partition, the
   events of deleted orders are deleted instead.

The table ``archives`` remembers what was begun, so that the next run finishes it.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import psycopg.errors

from slimtrack import archive as files
from slimtrack import faults
from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.order import first_id_of
from slimtrack.sql import partitions, pruning
from slimtrack.sql.partitions import Partition
from slimtrack.sql.pruning import Archive, PassedOrder

#: Orders that one statement reads or deletes.
_BATCH: Final = 500
#: Orders whose events are moved while everybody waits for an event, at most.
MOST_LEFT: Final = 5_000
#: How often a partition is tried to be dropped that somebody reads, and the seconds between.
_TRIES: Final = 300
_PAUSE: Final = 2.0
_FIRST: Final = UUID(int=0)

#: Told what is going on, in a line.
Report = Callable[[str], None]


class PruningError(SlimTrackError):
    """Orders cannot be pruned, or not all of the way; nothing is lost, and another run goes on."""


class Plan(msgspec.Struct, frozen=True):
    """What there is to prune in a partition.

    Attributes:
        partition: its name.
        orders: how many orders can be pruned.
        left: how many orders have to stay.
        dropped: whether it can be dropped then.
        bytes: how large it is on the disk.
    """

    partition: str
    orders: int
    left: int
    dropped: bool
    bytes: int


class Pruned(msgspec.Struct, frozen=True):
    """What became of a partition.

    Attributes:
        partition: its name.
        file: where its orders are kept; None where they are not.
        orders: how many orders were pruned.
        events: how many events they had.
        dropped: whether the partition is gone; else only its events of pruned orders are.
    """

    partition: str
    file: str | None
    orders: int
    events: int
    dropped: bool


class OrderPruning:
    """Prunes orders beside the live system.

    Every method raises ``psycopg.Error`` where the database does not answer.

    Args:
        connection: to PostgreSQL, in autocommit, as the owner of the tables.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def plan(self, *, age: float) -> list[Plan]:
        """Return what there is to prune that has not changed for ``age`` seconds."""
        cutoff = pruning.get_cutoff(self._connection, age=age)
        plans = [self._plan(each, cutoff) for each in self._partitions() if _is_old(each, cutoff)]
        return [each for each in plans if each.orders or each.dropped]

    def prune(self, *, age: float, directory: Path | None, report: Report) -> Iterator[Pruned]:
        """Prune what was begun before, and what has not changed for ``age`` seconds.

        Without a directory the orders are not kept.

        Raises:
            PruningError: somebody else prunes, or reads events for too long.
            ArchiveError: a file cannot be written or read; nothing of it has been deleted.
        """
        if not pruning.lock_pruning(self._connection):
            raise PruningError("Somebody else is pruning.")
        cutoff = pruning.get_cutoff(self._connection, age=age)
        begun = {each.partition: each for each in pruning.find_unfinished(self._connection)}
        for partition in self._partitions():
            archive = self._resume(begun.get(partition.name), partition, directory)
            if archive is None and _is_old(partition, cutoff):
                archive = self._begin(partition, cutoff, directory)
            if archive:
                yield self._finish(partition, archive, report)

    def _partitions(self) -> list[Partition]:
        return partitions.list_partitions(self._connection)

    def _plan(self, partition: Partition, cutoff: datetime) -> Plan:
        orders = left = 0
        for passed in self._walk(partition, cutoff):
            orders += sum(each.prunable is True for each in passed)
            left += sum(each.prunable is False for each in passed)
        dropped = not partition.is_default and left <= MOST_LEFT
        return Plan(partition.name, orders, left, dropped, partition.bytes)

    def _walk(self, partition: Partition, cutoff: datetime) -> Iterator[list[PassedOrder]]:
        busy = pruning.find_busy(self._connection, partition)
        after = _FIRST
        while passed := pruning.pass_orders(
            self._connection, partition, after=after, cutoff=cutoff, busy=busy, limit=_BATCH
        ):
            yield passed
            after = passed[-1].id

    def _begin(
        self, partition: Partition, cutoff: datetime, directory: Path | None
    ) -> Archive | None:
        plan = self._plan(partition, cutoff)
        if not (plan.orders or plan.dropped):
            return None
        return pruning.begin_archive(
            self._connection,
            partition,
            cutoff=cutoff,
            file=_file_in(directory, partition) if plan.orders else None,
            # What is over only now is of the next run: it might be kept nowhere.
            orders=None if plan.orders else 0,
        )

    def _resume(
        self, archive: Archive | None, partition: Partition, directory: Path | None
    ) -> Archive | None:
        """Return what was begun; None where it has come to nothing."""
        if archive is None or archive.orders is not None:
            return archive
        if archive.file is None:  # from now on, they may be wanted
            archive = archive._replace(file=_file_in(directory, partition))
            pruning.update_archive(self._connection, archive)
        elif not (path := Path(archive.file)).exists():
            files.part_of(path).unlink(missing_ok=True)
            pruning.forget_archive(self._connection, archive)
            return None
        return archive

    def _finish(self, partition: Partition, archive: Archive, report: Report) -> Pruned:
        if archive.file and archive.orders is None:
            archive = self._keep(partition, archive, Path(archive.file), report)
        if archive.file or archive.orders is None:
            orders, events = self._delete(partition, archive, report)
            if archive.file is None:
                archive = archive._replace(orders=orders, events=events)
                pruning.update_archive(self._connection, archive)
        dropped = self._clear(partition, archive)
        return Pruned(
            partition.name, archive.file, archive.orders or 0, archive.events or 0, dropped
        )

    def _keep(self, partition: Partition, archive: Archive, path: Path, report: Report) -> Archive:
        """Write the file if it is not there, and remember what is in it."""
        if not path.exists():
            try:
                self._write(partition, archive, path, report)
            except files.ArchiveError:
                pruning.forget_archive(self._connection, archive)
                raise
        # To its end, before anything is deleted: what cannot be read back is not kept.
        orders = events = 0
        for _, version in files.read_versions(path):
            orders += 1
            events += version
        archive = archive._replace(orders=orders, events=events)
        pruning.update_archive(self._connection, archive)
        return archive

    def _write(self, partition: Partition, archive: Archive, path: Path, report: Report) -> None:
        kept = 0
        with files.written(path) as write:
            for passed in self._walk(partition, archive.cutoff):
                for order in pruning.read_events(self._connection, partition, passed):
                    write(order)
                    kept += 1
                report(f"{partition.name}: {kept:,} orders archived")
        faults.point("prune.after_file")

    def _delete(self, partition: Partition, archive: Archive, report: Report) -> tuple[int, int]:
        """Delete what may be deleted; return how many orders and events that was at most."""
        busy = pruning.find_busy(self._connection, partition)
        versions = (
            files.read_versions(Path(archive.file))
            if archive.file
            else self._read_versions(partition, archive.cutoff)
        )
        orders = events = 0
        while batch := list(islice(versions, _BATCH)):
            pruning.delete_orders(self._connection, batch, busy=busy)
            faults.point("prune.half_deleted")
            orders += len(batch)
            events += sum(version for _, version in batch)
            report(f"{partition.name}: {orders:,} orders deleted")
        return orders, events

    def _read_versions(self, partition: Partition, cutoff: datetime) -> Iterator[tuple[UUID, int]]:
        for passed in self._walk(partition, cutoff):
            for each in passed:
                if each.order:
                    yield each.id, each.order.version

    def _clear(self, partition: Partition, archive: Archive) -> bool:
        """Take away the events of deleted orders; tell whether the whole partition went."""
        faults.point("prune.before_drop")
        left = pruning.count_left(self._connection, partition, limit=MOST_LEFT + 1)
        if not partition.is_default and left <= MOST_LEFT:
            self._drop(partition, archive)
            return True
        after: UUID | None = _FIRST
        while after is not None:
            after = pruning.delete_events(self._connection, partition, after=after, limit=_BATCH)
        pruning.finish_archive(self._connection, archive)
        return False

    def _drop(self, partition: Partition, archive: Archive) -> None:
        """Drop a partition in a moment in which nobody reads or writes events.

        Whoever comes while this waits for the moment waits as well: so it waits briefly, and often.
        """
        for _ in range(_TRIES):
            try:
                with self._connection.transaction():
                    partitions.drop_partition(self._connection, partition)
                    pruning.finish_archive(self._connection, archive)
            except psycopg.errors.LockNotAvailable:
                time.sleep(_PAUSE)
            else:
                return
        raise PruningError(
            f"{partition.name} cannot be dropped: somebody has been reading or writing events all "
            "the time, a backup perhaps. Run it again later; nothing is lost."
        )


def _is_old(partition: Partition, cutoff: datetime) -> bool:
    return partition.is_default or partition.to_id <= first_id_of(cutoff)


def _file_in(directory: Path | None, partition: Partition) -> str | None:
    if directory is None:
        return None
    month = partition.name.removeprefix("order_events_").replace("_", "-")
    name = f"orders-{month}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl.zst"
    return str(directory.absolute() / name)
