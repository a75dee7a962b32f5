"""The use cases: what can be done with orders; each is one transaction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

from slimtrack import faults
from slimtrack.domain.errors import OrderNotFoundError, ReferenceTakenError, UnavailableError
from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import NewOrder, Order, OrderPage, Status
from slimtrack.routing import ROUTES, stage_after
from slimtrack.sql import orders
from slimtrack.sql.errors import is_infrastructure

_log: Final = structlog.get_logger()

T = TypeVar("T")


class Tracking:
    """Everything that can be asked of orders, for any front end.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due; called after each commit that made some.
        stage_delays: seconds until each stage is due.
    """

    def __init__(
        self,
        pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]],
        *,
        wake_up: Callable[[], None],
        stage_delays: Mapping[Status, float],
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up
        self._stage_delays = stage_delays

    def place(self, new: NewOrder) -> Order:
        """Store a new order, its first event and its first outbox row.

        Raises:
            ReferenceTakenError: another order already has this reference.
            UnavailableError: the database does not answer.
        """
        faults.point("place.before_commit")
        placed = self.place_many([new])[0]
        faults.point("place.after_commit")
        if isinstance(placed, UUID):
            raise ReferenceTakenError(reference=new.reference or "", order_id=placed)
        return placed

    def place_many(self, new: Sequence[NewOrder]) -> list[Order | UUID]:
        """Store many orders at once.

        Returns, in the order given, the order itself, or the id of the other order that already
        has its reference. An order with an id that is stored already is returned as it is, so
        a call whose outcome is unknown may be repeated.

        Raises:
            UnavailableError: the database does not answer.
        """
        outcomes: dict[UUID, Order | UUID] = {}
        while missing := [order for order in new if order.id not in outcomes]:
            outcomes |= self._retried(partial(self._place, new=missing))
        self._wake_up()
        return [outcomes[order.id] for order in new]

    def _place(
        self, connection: orders.Connection, *, new: Sequence[NewOrder]
    ) -> dict[UUID, Order | UUID]:
        """Place orders and find out about those that were left out.

        The other order of a taken reference may have been removed before it is found; then its
        id is missing in the answer.
        """
        stage = ROUTES[Status.RECEIVED].stage
        placed = orders.place_orders(
            connection, new, next_stage=stage, next_delay=self._stage_delays[stage]
        )
        outcomes: dict[UUID, Order | UUID] = {
            order.id: Order(
                order.id,
                order.reference,
                order.description,
                order.metadata,
                Status.RECEIVED,
                1,
                placed[order.id],
                placed[order.id],
            )
            for order in new
            if order.id in placed
        }
        left_out = [order for order in new if order.id not in placed]
        if left_out:
            found = orders.find_orders(
                connection,
                ids=[order.id for order in left_out],
                references=[order.reference for order in left_out if order.reference],
            )
            by_id = {order.id: order for order in found}
            by_reference = {order.reference: order for order in found}
            for order in left_out:
                if order.id in by_id:
                    outcomes[order.id] = by_id[order.id]
                elif order.reference and order.reference in by_reference:
                    outcomes[order.id] = by_reference[order.reference].id
        return outcomes

    def get(self, order_id: UUID) -> Order:
        """Return one order.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """
        order = self._retried(lambda connection: orders.get_order(connection, order_id))
        if order is None:
            raise OrderNotFoundError(order_id)
        return order

    def list(self, *, page: int, page_size: int) -> OrderPage:
        """Return one page of orders, newest first.

        Raises:
            UnavailableError: the database does not answer.
        """
        offset = (page - 1) * page_size
        found, total = self._retried(
            lambda connection: (
                orders.list_orders(connection, limit=page_size, offset=offset),
                orders.count_orders(connection),
            )
        )
        return OrderPage(found, page, page_size, total)

    def history(self, order_id: UUID) -> Sequence[OrderEvent]:
        """Return the events of one order, oldest first.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """
        events = self._retried(lambda connection: orders.list_order_events(connection, order_id))
        if not events:
            raise OrderNotFoundError(order_id)
        return events

    def advance(self, stage: Status, ids: Sequence[int]) -> orders.Advanced:
        """Bring the orders of a set of outbox rows through a stage; repeats have no effect.

        Raises:
            psycopg.Error: nothing has changed.
        """
        next_stage = stage_after(stage)
        faults.point("actor.before_statement")
        with self._pool.connection() as connection:
            advanced = orders.advance_orders(
                connection,
                ids,
                stage=stage,
                next_stage=next_stage,
                next_delay=self._stage_delays[next_stage] if next_stage else 0.0,
            )
        # Always: a stage that was at its bound has room again, whether or not rows were made.
        self._wake_up()
        if advanced.moved < advanced.claimed:
            _log.info("orders.unmoved", stage=stage, claimed=advanced.claimed, moved=advanced.moved)
        faults.point("actor.after_commit")
        return advanced

    def _retried(self, work: Callable[[orders.Connection], T]) -> T:
        """Run work that may be repeated, a second time where its connection turns out dead.

        A restarted server leaves a pool full of connections that are closed and do not know it.
        """
        try:
            try:
                with self._pool.connection() as connection:
                    return work(connection)
            except PoolTimeout:
                raise
            except psycopg.Error as error:
                if not is_infrastructure(error):
                    raise
                self._pool.check()
                with self._pool.connection() as connection:
                    return work(connection)
        except psycopg.Error as error:
            if is_infrastructure(error):
                raise UnavailableError("The database does not answer.") from error
            raise
