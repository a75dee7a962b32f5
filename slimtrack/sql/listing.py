"""The statements that list orders; they never commit."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import args_row, scalar_row

from slimtrack.domain.listing import Found, Listing
from slimtrack.domain.order import Order, first_id_of
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection
from slimtrack.sql.orders import order_of

#: Orders that one list looks at, at most: what an index finds for it, or in each status those that
#: a walk passes. A few milliseconds' worth; metadata has to be fetched, which takes longer.
MOST: Final = 5_000
MOST_METADATA: Final = 2_000


def list_orders(connection: Connection, listing: Listing, *, limit: int, offset: int = 0) -> Found:
    """Return the orders that a listing asks for, by the cheapest way that there is."""
    for by in listing.indexed:
        if by == "metadata" and estimate_orders(connection, listing) > MOST_METADATA:
            continue
        found = search_orders(connection, listing, by=by, limit=limit, offset=offset)
        if found:
            return found
    if listing.is_of_all:
        return walk_all_orders(connection, listing, limit=limit, offset=offset)
    return walk_orders(connection, listing, limit=limit, offset=offset)


def list_tenant_ids(connection: Connection) -> list[int]:
    """Return whose orders there may be."""
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        return list(cursor.execute(_query("list_tenant_ids")).fetchone() or ())


def list_owners(connection: Connection, order_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return what the tenants of orders are called; those that are not there are left out."""
    parameters = {"order_ids": order_ids}
    # Never a prepared statement: its plan depends on how many they are.
    return dict(connection.execute(_query("list_owners"), parameters, prepare=False).fetchall())


def walk_orders(connection: Connection, listing: Listing, *, limit: int, offset: int = 0) -> Found:
    """Return orders by walking through those of each tenant in each status."""
    parameters = _parameters(connection, listing, limit=limit, offset=offset)
    if not listing.indexed:
        parameters["most"] = None  # whatever is passed is shown
    reach, orders = _read(connection, "walk_orders", listing, parameters)
    return Found(orders, reach)


def walk_all_orders(
    connection: Connection, listing: Listing, *, limit: int, offset: int = 0
) -> Found:
    """Return orders by walking through those of all tenants in all statuses."""
    parameters = _parameters(connection, listing, limit=limit, offset=offset)
    if not listing.indexed:
        parameters["most"] = limit + offset  # whatever is passed is shown
    reach, orders = _read(connection, "walk_all_orders", listing, parameters)
    return Found(orders, reach)


def search_orders(
    connection: Connection, listing: Listing, *, by: str, limit: int, offset: int = 0
) -> Found | None:
    """Return orders by an index of what the listing asks for; None if that finds too many."""
    parameters = _parameters(connection, listing, limit=limit, offset=offset)
    parameters |= {"by": by, "enough": None}
    if listing.indexed == ("updated_at",):
        parameters["enough"] = limit + offset
    candidates, orders = _read(connection, "search_orders", listing, parameters)
    return Found(orders, None) if candidates <= parameters["most"] else None


def estimate_orders(connection: Connection, listing: Listing) -> int:
    """Return how many orders of all tenants the server expects to have a listing's metadata."""
    parameters = {"metadata": msgspec.json.encode(listing.metadata).decode()}
    with connection.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(_query("estimate_orders"), parameters, prepare=False)
        plans: Any = cursor.fetchone()
    return int(plans[0]["Plan"]["Plan Rows"])


def count_orders(connection: Connection, listing: Listing, *, limit: int) -> int:
    """Return how many orders have one of the statuses, counting up to a limit."""
    parameters = {
        "tenant_ids": _tenant_ids(connection, listing),
        "statuses": sorted(listing.statuses),
        "limit": limit,
    }
    with connection.cursor(row_factory=scalar_row, binary=True) as cursor:
        cursor.execute(_query("count_orders"), parameters, prepare=False)
        return int(cursor.fetchone() or 0)


def _query(name: str) -> str:
    return statements.load("listing.sql")[name]


def _tenant_ids(connection: Connection, listing: Listing) -> list[int]:
    return list_tenant_ids(connection) if listing.tenant_id is None else [listing.tenant_id]


def _parameters(
    connection: Connection, listing: Listing, *, limit: int, offset: int
) -> dict[str, Any]:
    before = listing.before
    if listing.updated_before:  # nothing changes before it is made
        before = min(before, first_id_of(listing.updated_before))
    return {
        "tenant_ids": _tenant_ids(connection, listing),
        "statuses": sorted(listing.statuses),
        "reference": listing.reference,
        "tracking_number": listing.tracking_number,
        "after": listing.after,
        "before": before,
        "metadata": msgspec.json.encode(listing.metadata).decode() if listing.metadata else None,
        "updated_after": listing.updated_after,
        "updated_before": listing.updated_before,
        "most": MOST_METADATA if listing.metadata else MOST,
        "limit": limit,
        "offset": offset,
    }


def _read(
    connection: Connection, name: str, listing: Listing, parameters: dict[str, Any]
) -> tuple[Any, list[Order]]:
    """Return what the first column of every row says, and the orders in the others."""

    def read(first: Any, *columns: Any) -> tuple[Any, Order | None]:
        return first, None if columns[0] is None else order_of(*columns)

    direction, before = ("ASC", "<") if listing.oldest_first else ("DESC", ">")
    if name != "walk_all_orders":
        # As order_statuses_tenant_id_status_order_id_idx has them, and the primary key does not.
        direction += " NULLS FIRST" if listing.oldest_first else " NULLS LAST"
    query = sql.SQL(_query(name)).format(direction=sql.SQL(direction), before=sql.SQL(before))
    with connection.cursor(row_factory=args_row(read), binary=True) as cursor:
        # Never a prepared statement: a plan that suits every filter suits none.
        rows = cursor.execute(query, parameters, prepare=False).fetchall()
    return rows[0][0], [order for _, order in rows if order]
