"""The use case of simulating: orders that nobody has placed, to see what becomes of them."""

import secrets
from typing import Final

from slimtrack.domain.access import Principal
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.domain.order import Flow, NewOrder, Order, new_order_ids
from slimtrack.domain.outcome import Outcome, reference_of
from slimtrack.sql import operator_actions
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool
from slimtrack.use_cases.tracking import Tracking

#: Orders that are placed at once, at most.
MOST: Final = 1_000


class Simulating:
    """Places test orders.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        tracking: places the orders.
    """

    def __init__(self, pool: Pool, *, tracking: Tracking) -> None:
        self._pool = pool
        self._tracking = tracking

    def place(
        self,
        count: int,
        *,
        outcome: Outcome | None,
        principal: Principal,
        action: OperatorAction,
        correlation_id: str,
    ) -> list[Order]:
        """Place so many orders that all meet with the same, or with nothing.

        Raises:
            UnavailableError: the database does not answer.
        """
        run = secrets.token_hex(4)
        prefix = reference_of(outcome) if outcome else "simulated"
        wanted = [
            NewOrder(
                id=order_id,
                tenant_id=principal.tenant_id,
                flow=Flow.SIMULATED,
                description=f"Simulated order {number} of {count}",
                reference=f"{prefix}/{run}-{number}",
                metadata={},
                correlation_id=correlation_id,
            )
            for number, order_id in enumerate(new_order_ids(count), 1)
        ]
        with unavailable_if_away(), self._pool.connection() as connection:
            operator_actions.record_action(
                connection,
                action,
                name=ActionName.SIMULATE,
                selection={"outcome": outcome or ""},
                affected=count,
            )
        placed = self._tracking.place_many(wanted)
        return [each for each in placed if isinstance(each, Order)]
