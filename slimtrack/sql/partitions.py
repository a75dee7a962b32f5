"""The statements on the partitions of order_events; they never commit."""

from typing import NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.rows import args_row, scalar_row

from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


class Partition(NamedTuple):
    """A part of order_events, with the events of the orders from one id to before another.

    The default one holds those that no other is for, of whatever ids.
    """

    name: str
    from_id: UUID
    to_id: UUID
    is_default: bool
    #: On the disk, with its indexes.
    bytes: int


def _query(name: str) -> str:
    return statements.load("partitions.sql")[name]


def may_make_partitions(connection: Connection) -> bool:
    """Tell whether this session's role may make partitions."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return bool(cursor.execute(_query("may_make_partitions")).fetchone())


def make_partitions(connection: Connection) -> list[str]:
    """Make the partitions of this month and the next two; return the names of those made.

    Raises:
        psycopg.errors.LockNotAvailable: somebody was in the way for 200 ms.
    """
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(_query("make_partitions")).fetchall()


def list_partitions(connection: Connection) -> list[Partition]:
    """Return all partitions, those of older orders first, the default one last."""
    with connection.cursor(row_factory=args_row(Partition), binary=True) as cursor:
        return cursor.execute(_query("list_partitions")).fetchall()


#: Events that are still wanted go where those of no partition are.
_DROP = """
SET LOCAL lock_timeout = '200ms';
ALTER TABLE order_events DETACH PARTITION {partition};
INSERT INTO order_events
SELECT * FROM {partition}
 WHERE order_id = ANY(ARRAY(SELECT id FROM orders WHERE id >= {from_id} AND id < {to_id}));
DROP TABLE {partition}
"""


def drop_partition(connection: Connection, partition: Partition) -> None:
    """Drop a partition, but for the events of orders that are still there.

    Nobody reads or writes an event until the transaction ends.

    Raises:
        psycopg.errors.LockNotAvailable: somebody was in the way for 200 ms.
    """
    connection.execute(
        sql.SQL(_DROP).format(
            partition=sql.Identifier(partition.name),
            from_id=sql.Literal(partition.from_id),
            to_id=sql.Literal(partition.to_id),
        ),
        prepare=False,
    )
