"""The use cases: what can be done with orders; each is one transaction."""

from collections.abc import Sequence
from uuid import UUID

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.order import NewOrder, Order, OrderPage


class Tracking:
    """Everything that can be asked of orders, for any front end."""

    def place(self, new: NewOrder) -> Order:
        """Store a new order, its first event and its first outbox row.

        Raises:
            ReferenceTakenError: another order already has this reference.
            UnavailableError: the database does not answer.
        """
        raise NotImplementedError

    def place_many(self, new: Sequence[NewOrder]) -> list[Order | UUID]:
        """Store many orders at once.

        Returns, in the order given, the order itself, or the id of the other order that already
        has its reference. An order with an id that is stored already is returned as it is, so
        a call whose outcome is unknown may be repeated.
        """
        raise NotImplementedError

    def get(self, order_id: UUID) -> Order:
        """Return one order.

        Raises:
            OrderNotFoundError: there is no such order.
        """
        raise NotImplementedError

    def list(self, *, page: int, page_size: int) -> OrderPage:
        """Return one page of orders, newest first."""
        raise NotImplementedError

    def history(self, order_id: UUID) -> Sequence[OrderEvent]:
        """Return the events of one order, oldest first.

        Raises:
            OrderNotFoundError: there is no such order.
        """
        raise NotImplementedError
