"""What every peer works on: the tables, one stage of one order, and what is true at the end."""

import os
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

#: The statuses of an order; the n-th is set by the n-th event.
STATUSES: Final = ("received", "processing", "in_transit", "out_for_delivery", "delivered")
#: The sequences of the events that the first and the last stage write.
FIRST: Final = 2
LAST: Final = len(STATUSES)

#: One statement: one transaction, one round trip. Nothing is left to do for a repeat, as its
#: order has a later version.
ADVANCE: Final = """
    WITH moved AS (
        UPDATE orders
           SET status = %(status)s, version = %(sequence)s, updated_at = now()
         WHERE id = %(order_id)s AND version = %(sequence)s - 1
        RETURNING id)
    INSERT INTO order_events (order_id, sequence, status, message, occurred_at)
    SELECT id, %(sequence)s, %(status)s, %(message)s, now() FROM moved
"""

#: Orders have as much room for updates in place as SlimTrack's.
_TABLES: Final = """
    CREATE SCHEMA peers;
    CREATE TABLE orders (
        id uuid PRIMARY KEY,
        status text NOT NULL,
        version integer NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE order_events (
        order_id uuid NOT NULL,
        sequence integer NOT NULL,
        status text NOT NULL,
        message text NOT NULL,
        occurred_at timestamptz NOT NULL,
        PRIMARY KEY (order_id, sequence)
    )
"""

_PLACE: Final = """
    WITH placed AS (
        INSERT INTO orders (id, status, version, created_at, updated_at)
        SELECT gen_random_uuid(), 'received', 1, now(), now() FROM generate_series(1, %s)
        RETURNING id)
    INSERT INTO order_events (order_id, sequence, status, message, occurred_at)
    SELECT id, 1, 'received', 'The order is received.', now() FROM placed
"""

_COUNT_DELIVERED: Final = """
    SELECT count(*) FROM (
        SELECT FROM orders JOIN order_events ON order_id = id
         GROUP BY id
        HAVING orders.status = 'delivered'
           AND array_agg(sequence ORDER BY sequence) = '{1,2,3,4,5}'
           AND array_agg(order_events.status ORDER BY sequence) = %s) AS delivered
"""


class PeerError(Exception):
    """A peer did not do what it was measured at."""


def peers_url(database_url: str) -> str:
    """Return the URL with which nothing is seen but the peers' own tables."""
    return make_conninfo(database_url, options="-c search_path=peers")


def make_tables(connection: Connection[Any]) -> None:
    """Make the empty tables."""
    connection.execute(_TABLES)


def drop_tables(connection: Connection[Any]) -> None:
    """Drop the tables if they are there, with what a peer has made beside them."""
    connection.execute("DROP SCHEMA IF EXISTS peers CASCADE")


def place(connection: Connection[Any], orders: int) -> None:
    """Place this many orders, each with its first event."""
    connection.execute(_PLACE, (orders,))
    connection.execute("ANALYZE orders, order_events")


def order_ids() -> list[str]:
    """Return the ids of all orders in the database that the environment names."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        rows: list[tuple[UUID]] = connection.execute("SELECT id FROM orders").fetchall()
    return [str(order_id) for (order_id,) in rows]


def closed_pool(*, size: int) -> ConnectionPool:
    """Make a pool for that database, which a worker process opens for itself."""
    return ConnectionPool(
        os.environ["DATABASE_URL"], min_size=size, kwargs={"autocommit": True}, open=False
    )


def parameters(order_id: str, sequence: int) -> dict[str, object]:
    """Return what ``ADVANCE`` has to know to write an order's event of this sequence."""
    status = STATUSES[sequence - 1]
    message = f"The order is {status}."
    return {"order_id": order_id, "sequence": sequence, "status": status, "message": message}


def advance(connection: Connection[Any], order_id: str, sequence: int) -> None:
    """Bring an order to the status of this sequence, with its event, if that is the next one."""
    connection.execute(ADVANCE, parameters(order_id, sequence), prepare=True)


def is_done(connection: Connection[Any]) -> bool:
    """Return whether no order is on its way any more."""
    row = connection.execute("SELECT FROM orders WHERE version < %s LIMIT 1", (LAST,)).fetchone()
    return row is None


def check(connection: Connection[Any], orders: int) -> None:
    """Check that every order was delivered, with each of its events once.

    Raises:
        PeerError: it was not so.
    """
    row = connection.execute(_COUNT_DELIVERED, (list(STATUSES),)).fetchone()
    if row != (orders,):
        raise PeerError(f"Of {orders} orders, {row} were delivered with {LAST} events.")
