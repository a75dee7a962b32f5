"""The statements behind the page for those who wait for a parcel; they never commit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from slimtrack.domain.following import Lead, Passed
from slimtrack.domain.order import Flow, Status
from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


def _query(name: str) -> str:
    return statements.load("following.sql")[name]


class FollowedOrder(NamedTuple):
    """Of an order, what its events do not say."""

    id: UUID
    tenant_id: int
    flow: Flow
    delivery_attempts: int
    version: int


def find_followed_order(connection: Connection, tracking_number: int) -> FollowedOrder | None:
    """Return the order with a tracking number, or None for an unknown one."""
    query, parameters = _query("find_followed_order"), {"tracking_number": tracking_number}
    found = connection.execute(query, parameters).fetchone()
    if found is None:
        return None
    order_id, tenant_id, flow, *numbers = found
    return FollowedOrder(order_id, tenant_id, Flow(flow), *numbers)


def list_passed(connection: Connection, order_id: UUID, *, version: int) -> list[Passed]:
    """Return every status that an order reached up to a version of itself, oldest first."""
    parameters = {"order_id": order_id, "version": version}
    rows = connection.execute(_query("list_passed"), parameters).fetchall()
    return [Passed(Status(status), *others) for status, *others in rows]


def list_versions(connection: Connection, order_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """Return which versions of themselves orders are; those that are not there are left out."""
    rows = connection.execute(_query("list_versions"), {"order_ids": order_ids}, prepare=False)
    return dict(rows.fetchall())


def measure_leads(
    connection: Connection, *, tenant_id: int, most: int, sample: int, few: int
) -> Mapping[tuple[Flow, Status], Lead]:
    """Return what a tenant's orders took to their delivery, by flow and status.

    Args:
        connection: the connection.
        tenant_id: whose orders.
        most: orders that changed last that are looked at.
        sample: delivered ones whose events are read, at most.
        few: with fewer than so many nothing is said.
    """
    parameters = {"tenant_id": tenant_id, "most": most, "sample": sample, "few": few}
    rows = connection.execute(_query("measure_leads"), parameters, prepare=False)
    return {(Flow(flow), Status(status)): Lead(*seconds) for flow, status, *seconds in rows}
