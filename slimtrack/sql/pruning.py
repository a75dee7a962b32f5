"""The statements that prune orders; they never commit."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.archive import ArchivedEvent, ArchivedOrder
from slimtrack.domain.order import FINAL, Order
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.orders import event_of, order_of
from slimtrack.sql.partitions import Partition
from slimtrack.sql.timeline import list_incidents


class Archive(NamedTuple):
    """A partition's pruning, begun and not finished."""

    id: int
    partition: str
    cutoff: datetime
    #: Where the orders are kept; None where they are not.
    file: str | None
    #: None until they are known; with a file, nothing is deleted before.
    orders: int | None
    events: int | None


class PassedOrder(NamedTuple):
    """An id that a partition has events of; what is left out is gone, or may not be pruned."""

    id: UUID
    #: None where there is no order.
    prunable: bool | None
    tenant: str
    order: Order | None


def _query(name: str) -> str:
    return statements.load("pruning.sql")[name]


def _of(name: str, partition: Partition) -> sql.Composed:
    return sql.SQL(_query(name)).format(partition=sql.Identifier(partition.name))


def lock_pruning(connection: Connection) -> bool:
    """Tell whether this session is the only one that prunes, until it ends."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(_query("lock_pruning")).fetchone())


def get_cutoff(connection: Connection, *, age: float) -> datetime:
    """Return what time it was ``age`` seconds ago, by the server's clock."""
    [(cutoff,)] = connection.execute(_query("get_cutoff"), {"age": age}).fetchall()
    return cutoff  # type: ignore[no-any-return]


def find_unfinished(connection: Connection) -> list[Archive]:
    """Return what was begun and not finished."""
    with connection.cursor(row_factory=args_row(Archive)) as cursor:
        return cursor.execute(_query("find_unfinished")).fetchall()


def begin_archive(
    connection: Connection,
    partition: Partition,
    *,
    cutoff: datetime,
    file: str | None,
    orders: int | None,
) -> Archive:
    """Remember that a partition's orders are going to be pruned, or that there are none."""
    parameters = {
        "partition": partition.name,
        "from_id": partition.from_id,
        "to_id": partition.to_id,
        "cutoff": cutoff,
        "file": file,
        "orders": orders,
    }
    with connection.cursor(row_factory=args_row(Archive)) as cursor:
        [archive] = cursor.execute(_query("begin_archive"), parameters).fetchall()
    return archive


def forget_archive(connection: Connection, archive: Archive) -> None:
    """Forget a pruning that has deleted nothing."""
    connection.execute(_query("forget_archive"), {"id": archive.id})


def update_archive(connection: Connection, archive: Archive) -> None:
    """Remember where orders are kept, and how many."""
    connection.execute(_query("update_archive"), archive._asdict())


def finish_archive(connection: Connection, archive: Archive) -> None:
    """Remember that nothing is left to be deleted."""
    connection.execute(_query("finish_archive"), {"id": archive.id})


def find_busy(connection: Connection, partition: Partition) -> list[UUID]:
    """Return the orders of a partition for which something is still to be done or decided."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return cursor.execute(_of("find_busy", partition)).fetchall()


def pass_orders(
    connection: Connection,
    partition: Partition,
    *,
    after: UUID,
    cutoff: datetime,
    busy: Sequence[UUID],
    limit: int,
) -> list[PassedOrder]:
    """Return the next orders of a partition, in the order of their ids."""

    def read(*row: Any) -> PassedOrder:
        order_id, prunable, tenant, *columns = row
        return PassedOrder(order_id, prunable, tenant, order_of(*columns) if prunable else None)

    parameters = {
        "after": after,
        "cutoff": cutoff,
        "busy": busy,
        "final": list(FINAL),
        "limit": limit,
    }
    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        return cursor.execute(_of("pass_orders", partition), parameters, prepare=False).fetchall()


def read_events(
    connection: Connection, partition: Partition, passed: Sequence[PassedOrder]
) -> list[ArchivedOrder]:
    """Return the prunable ones of some orders with their histories.

    An order that has changed since it was read, or whose history is not whole, is left out.
    """
    ids = [each.id for each in passed if each.prunable]
    with connection.cursor(binary=True) as cursor:
        query = _of("read_events", partition)
        rows = cursor.execute(query, {"ids": ids}, prepare=False).fetchall()
    histories = {
        order_id: [_archived_event(*columns) for _, *columns in group]
        for order_id, group in groupby(rows, key=lambda row: row[0])
    }
    incidents = list_incidents(connection, ids)
    return [
        ArchivedOrder(
            **msgspec.structs.asdict(each.order),
            tenant=each.tenant,
            events=histories[each.id],
            incidents=incidents.get(each.id, ()),
        )
        for each in passed
        if each.order and len(histories.get(each.id, ())) == each.order.version
    ]


def _archived_event(*columns: Any) -> ArchivedEvent:
    *event, idempotency_key, correlation_id, published_at, next_due_at = columns
    return ArchivedEvent(
        **msgspec.structs.asdict(event_of(*event)),
        idempotency_key=idempotency_key,
        correlation_id=correlation_id,
        published_at=published_at,
        next_due_at=next_due_at,
    )


def delete_orders(
    connection: Connection, versions: Sequence[tuple[UUID, int]], *, busy: Sequence[UUID]
) -> int:
    """Delete those of some orders that still are of these versions; return how many."""
    parameters = {
        "ids": [order_id for order_id, _ in versions],
        "versions": [version for _, version in versions],
        "busy": busy,
    }
    return connection.execute(_query("delete_orders"), parameters, prepare=False).rowcount


def count_left(connection: Connection, partition: Partition, *, limit: int) -> int:
    """Return how many orders a partition's events may be of, counting up to a limit."""
    parameters = {"from_id": partition.from_id, "to_id": partition.to_id, "limit": limit}
    with connection.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute(_query("count_left"), parameters).fetchone() or 0)


def delete_events(
    connection: Connection, partition: Partition, *, after: UUID, limit: int
) -> UUID | None:
    """Delete those of the next events whose orders are gone; return where to go on, if at all."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        query = _of("delete_events", partition)
        return cursor.execute(query, {"after": after, "limit": limit}).fetchone()
