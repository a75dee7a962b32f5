"""The use cases of whoever checks the system: what must hold, what is stuck, what can be mended."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.domain.order import Flow, Status
from slimtrack.routing import ROUTES
from slimtrack.sql import audit, operator_actions
from slimtrack.sql.audit import StuckOrder
from slimtrack.sql.pool import Pool, snapshot
from slimtrack.telemetry import metrics

_log: Final = structlog.get_logger()

#: Orders that are named of those that break a check; more are not counted.
_EXAMPLES: Final = 1_000
#: Orders that one transaction repairs.
_REPAIRED: Final = 10_000
#: What must hold, and what finds the orders for which it does not.
_CHECKS: Final = {
    "every order is final, or a row or dead letter accounts for it": audit.find_stranded_orders,
    "the events of an order are numbered 1 to its version": audit.find_gaps,
    "orders move only as declared": audit.find_undeclared_moves,
    "an order's status is that of the event that set it": audit.find_contradictions,
    "every event and every row is of an order": audit.find_strays,
    "no row promises what is done, or is a dead letter too": audit.find_doubles,
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that must hold, and the orders for which it does not (the first thousand)."""

    name: str
    what: str
    broken: list[UUID]


class AuditResult(msgspec.Struct, frozen=True):
    """Everything that an audit looked at, as of one moment."""

    orders: dict[str, int]
    rows: dict[str, int]
    findings: list[Finding]
    #: Messages that the broker has put aside and nobody drains; None where it does not answer.
    rejected: int | None = 0

    @property
    def is_clean(self) -> bool:
        """Whether everything holds."""
        return not self.rejected and not any(finding.broken for finding in self.findings)


class Auditing:
    """Looks at everything; any number of copies may run beside the live system.

    Every method raises ``psycopg.Error`` where the database does not answer.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        deadlines: seconds after which a row counts as stuck, by its stage; also fan-out rows.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        deadlines: Mapping[str, float],
    ) -> None:
        self._pool = pool
        self._deadlines = deadlines

    def audit(self) -> AuditResult:
        """Check the invariants in the database, all as of one moment, in bounded memory."""
        with self._pool.connection() as connection, snapshot(connection):
            audit.keep_partitions(connection)
            return AuditResult(
                audit.count_places(connection),
                audit.count_rows(connection),
                [
                    Finding(
                        find.__name__.removeprefix("find_"),
                        what,
                        find(connection, limit=_EXAMPLES),
                    )
                    for what, find in _CHECKS.items()
                ],
            )

    def stuck(self, *, limit: int) -> Sequence[StuckOrder]:
        """Return the orders whose next stage, or an event of theirs, is past its deadline.

        The latest come first; there is one for each row.
        """
        with self._pool.connection() as connection:
            return audit.find_stuck_orders(connection, self._deadlines, limit=limit)

    def watch(self) -> int:
        """Count the rows that are past their deadline, and say so in the log."""
        with self._pool.connection() as connection:
            counts = audit.count_stuck_rows(connection, self._deadlines)
        for stage in self._deadlines:
            metrics.STUCK_ROWS.labels(stage).set(counts.get(stage, 0))
        metrics.mark_seen("stuck")
        count = sum(counts.values())
        if count:
            _log.error("orders.stuck", rows=count)
        return count

    def find_stranded(self) -> list[UUID]:
        """Return orders that nobody will ever work on, which should be impossible."""
        with self._pool.connection() as connection:
            found = audit.find_stranded_orders(connection, limit=_REPAIRED)
        metrics.STRANDED_ORDERS.labels(Flow.SIMULATED).set(len(found))
        metrics.mark_seen("stranded")
        if found:
            _log.error("orders.stranded", orders=len(found), example=str(found[0]))
        return found

    def repair(self, stranded: Sequence[UUID], *, action: OperatorAction) -> int:
        """Give stranded orders the row of their next stage again; return how many lacked it."""
        stages = {status: route.stage for status, route in ROUTES.items()}
        # Whatever attempt it was: another one does no harm.
        stages[Status.DELIVERY_FAILED] = Status.OUT_FOR_DELIVERY
        with self._pool.connection() as connection, connection.transaction():
            repaired = audit.repair_stranded_orders(
                connection, stranded, next_stages=stages, action=action
            )
            operator_actions.record_action(
                connection, action, name=ActionName.REPAIR, selection=Selection(), affected=repaired
            )
        return repaired
