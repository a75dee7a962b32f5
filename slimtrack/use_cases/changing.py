"""What callers can change: commands on orders, within one connection or transaction of it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from slimtrack.domain.errors import (
    EventNotFoundError,
    HistoryFullError,
    OrderNotFoundError,
    StaleVersionError,
    TransitionNotAllowedError,
)
from slimtrack.domain.event import MAX_EVENTS, MAX_REMARKS, MESSAGES, EventKind
from slimtrack.domain.idempotency import Answer, KeyInUseError, KeyReusedError, Once
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.domain.order import FINAL, TRANSITIONS, Flow, NewOrder, Order, Status, time_of
from slimtrack.domain.outcome import Outcome, outcome_of
from slimtrack.domain.report import Effect, Report, effect_of
from slimtrack.domain.schedule import NOTHING
from slimtrack.domain.tracking_code import format_code
from slimtrack.routing import ROUTES, Schedule
from slimtrack.sql import idempotency, operator_actions, orders
from slimtrack.sql.connection import Connection
from slimtrack.sql.orders import Entry
from slimtrack.telemetry import tracing

#: Orders of one request that are traced, at most.
_MOST_TRACED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which order a command is for; it has to be of the tenant, and of the version if one is given.

    Attributes:
        order: its id, or its tracking number.
        tenant_id: whose order; None for anybody's.
        version: the version that the caller has seen.
        correlation_id: the request that the command came with.
    """

    order: UUID | int
    tenant_id: int | None
    version: int | None = None
    correlation_id: str | None = None


class Changes:
    """Commands on orders; none commits what a caller's transaction has not finished.

    Args:
        connection: in autocommit, or in a transaction that the commands become part of.
        schedule: when each stage is due.
        fan_out: whether events are published for other services.
        answer_lifetime: seconds for which the answers to commands are given again.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        schedule: Schedule,
        fan_out: bool,
        answer_lifetime: float,
    ) -> None:
        self._connection = connection
        self._schedule = schedule
        self._fan_out = fan_out
        self._answer_lifetime = answer_lifetime
        #: Whether an event was written by a command that has another effect when it is repeated.
        self.has_appended = False
        #: What there is to be counted when it is committed.
        self.placed = 0
        self.moved: list[Order] = []

    def transaction(self) -> AbstractContextManager[object]:
        """Make all commands within the context one transaction."""
        return self._connection.transaction()

    def place(self, new: NewOrder) -> Order | UUID:
        """Store a new order, in one statement; see ``place_many``."""
        tracking_number = orders.place_order(
            self._connection,
            new,
            outcome=_outcome_of(new),
            next_stage=ROUTES[Status.RECEIVED].stage,
            next_delay=self._schedule.after(Status.RECEIVED).delay,
            fan_out=self._fan_out,
            traceparent=tracing.traceparent(),
        )
        if tracking_number is None:
            return self.place_many([new])[0]
        self.placed += 1
        return as_placed(new, tracking_number)

    def place_many(self, new: Sequence[NewOrder]) -> list[Order | UUID]:
        """Store new orders, in one statement.

        Returns, in the order given, the order itself, or the id of the other order that already
        has its reference. An order with an id that is stored already is returned as it is.
        """
        outcomes: dict[UUID, Order | UUID] = {}
        # Another order of the same reference may have been removed before it is found, and a
        # tracking number may be taken: such an order is missing, and placed again.
        while missing := [order for order in new if order.id not in outcomes]:
            outcomes |= self._place_many(missing)
        self.placed += sum(isinstance(outcome, Order) for outcome in outcomes.values())
        return [outcomes[order.id] for order in new]

    def _place_many(self, new: Sequence[NewOrder]) -> dict[UUID, Order | UUID]:
        placed = orders.place_orders(
            self._connection,
            new,
            outcomes=[_outcome_of(order) for order in new],
            next_stage=ROUTES[Status.RECEIVED].stage,
            next_delay=self._schedule.after(Status.RECEIVED).delay,
            fan_out=self._fan_out,
            traceparent=tracing.traceparent() if len(new) <= _MOST_TRACED else None,
        )
        outcomes: dict[UUID, Order | UUID] = {
            order.id: as_placed(order, placed[order.id]) for order in new if order.id in placed
        }
        left_out = [order for order in new if order.id not in placed]
        if left_out:
            found = orders.find_orders(
                self._connection,
                ids=[order.id for order in left_out],
                tenant_ids=[order.tenant_id for order in left_out],
                references=[order.reference for order in left_out if order.reference],
            )
            by_id = {order.id: order for _, order in found}
            by_reference = {(tenant, order.reference): order for tenant, order in found}
            for order in left_out:
                if order.id in by_id:
                    outcomes[order.id] = by_id[order.id]
                elif order.reference and (order.tenant_id, order.reference) in by_reference:
                    outcomes[order.id] = by_reference[order.tenant_id, order.reference].id
        return outcomes

    def cancel(self, target: Target, *, reason: str | None) -> Order:
        """Cancel an order that is not on its way yet.

        Raises:
            OrderNotFoundError: there is no such order.
            StaleVersionError: it has changed since the caller looked.
            TransitionNotAllowedError: it is too late.
        """
        with self._connection.transaction():
            order = self._lock(target)
            if Status.CANCELLED not in TRANSITIONS[order.status]:
                raise TransitionNotAllowedError(
                    order.id,
                    status=order.status,
                    wanted=Status.CANCELLED,
                    allowed=TRANSITIONS[order.status],
                )
            return self._append(
                order,
                Entry(
                    EventKind.TRANSITION,
                    "cancel",
                    MESSAGES[Status.CANCELLED],
                    to_status=Status.CANCELLED,
                    reason=reason,
                    correlation_id=target.correlation_id,
                ),
            )

    def report(self, target: Target, report: Report) -> Order:
        """Record what somebody says happened; the order moves, or the report is late.

        Raises:
            OrderNotFoundError: there is no such order.
            StaleVersionError: it has changed since the caller looked.
            TransitionNotAllowedError: what is reported cannot have happened, or not in that
                delivery attempt.
        """
        with self._connection.transaction():
            order = self._lock(target)
            moves = effect_of(report, order) is Effect.MOVES
            return self._append(
                order,
                Entry(
                    EventKind.TRANSITION if moves else EventKind.LATE,
                    "report",
                    report.message or MESSAGES[report.status],
                    to_status=report.status if moves else None,
                    status=report.status,
                    reason=report.reason,
                    location=report.location,
                    source=report.source,
                    attempt=report.attempt,
                    occurred_at=report.occurred_at,
                    correlation_id=target.correlation_id,
                ),
            )

    def correct(self, target: Target, *, sequence: int, message: str, source: str | None) -> Order:
        """Record that an earlier event was wrong; the event itself stays as it is.

        Raises:
            OrderNotFoundError: there is no such order.
            EventNotFoundError: it has no such event.
            HistoryFullError: the order has as many events as it may have.
            StaleVersionError: it has changed since the caller looked.
        """
        with self._connection.transaction():
            order = self._lock(target)
            if sequence > order.version:
                raise EventNotFoundError(order.id, sequence=sequence)
            return self._append(
                order,
                Entry(
                    EventKind.CORRECTION,
                    "correction",
                    message,
                    source=source,
                    corrects=sequence,
                    correlation_id=target.correlation_id,
                ),
            )

    def record(self, order: Order, *, name: ActionName, action: OperatorAction) -> None:
        """Record who has changed an order, and why; in the transaction that has changed it."""
        operator_actions.record_action(
            self._connection,
            action,
            name=name,
            selection={"order_id": order.id, "event": order.version},
            affected=1,
        )

    def recall(self, once: Once) -> Answer | None:
        """Return what a command was answered; None for a new one.

        A new one is nobody else's until the transaction ends.

        Raises:
            KeyReusedError: the key was used for another command.
            KeyInUseError: a command with this key is being carried out.
        """
        is_ours = idempotency.lock_key(self._connection, once.key, tenant_id=once.tenant_id)
        known = self._find_answers([once]).get(once.key)
        if isinstance(known, KeyReusedError):
            raise known
        if known is None and not is_ours:
            raise KeyInUseError(once.key)
        return known

    def recall_rows(self, once: Sequence[Once]) -> dict[str, Answer | KeyReusedError]:
        """Return what is known of rows by their key; nothing for those that are new.

        All are of one tenant. Whoever else comes with rows of this tenant waits until the
        transaction ends.
        """
        if not once:
            return {}
        idempotency.lock_rows(self._connection, tenant_id=once[0].tenant_id)
        return self._find_answers(once)

    def _find_answers(self, once: Sequence[Once]) -> dict[str, Answer | KeyReusedError]:
        answered = idempotency.find_answers(
            self._connection,
            [each.key for each in once],
            tenant_id=once[0].tenant_id,
            lifetime=self._answer_lifetime,
        )
        return {
            each.key: before.answer
            if before.fingerprint == each.fingerprint
            else KeyReusedError(each.key)
            for each in once
            if (before := answered.get(each.key))
        }

    def remember(
        self,
        bodies: Mapping[Once, bytes],
        *,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        """Store answers, to be given again when their commands are repeated."""
        if bodies:
            idempotency.store_answers(
                self._connection,
                {each.key: (each.fingerprint, body) for each, body in bodies.items()},
                tenant_id=next(iter(bodies)).tenant_id,
                status=status,
                headers=headers,
            )

    def _lock(self, target: Target) -> Order:
        found: UUID | None
        if isinstance(target.order, UUID):
            found = target.order
        else:
            found = orders.find_order_id(self._connection, target.order)
        order = found and orders.lock_order(self._connection, found, tenant_id=target.tenant_id)
        if not order:
            raise OrderNotFoundError(name_of(target.order))
        if target.version not in {None, order.version}:
            raise StaleVersionError(order.id, version=order.version)
        return order

    def _append(self, order: Order, entry: Entry) -> Order:
        most = MAX_EVENTS if entry.to_status else MAX_REMARKS
        if order.version >= most and entry.to_status not in FINAL:
            raise HistoryFullError(order.id, events=order.version)
        following = NOTHING
        if entry.to_status and order.flow is Flow.SIMULATED:
            following = self._schedule.after(
                entry.to_status, delivery_attempts=order.delivery_attempts
            )
        self.has_appended = True
        changed = orders.append_event(
            self._connection,
            order.id,
            entry,
            following=following,
            fan_out=self._fan_out,
            traceparent=tracing.traceparent(),
        )
        if entry.to_status:
            self.moved.append(changed)
        return changed


def name_of(order: UUID | int) -> str:
    """Return an order's id or tracking code as people write it."""
    return str(order) if isinstance(order, UUID) else format_code(order)


def _outcome_of(order: NewOrder) -> Outcome | None:
    return outcome_of(order.reference) if order.flow is Flow.SIMULATED else None


def as_placed(order: NewOrder, tracking_number: int) -> Order:
    """Return a new order as it is right after it was stored."""
    created_at = time_of(order.id)
    return Order(
        order.id,
        format_code(tracking_number),
        order.reference,
        order.description,
        order.metadata,
        order.flow,
        Status.RECEIVED,
        0,
        1,
        created_at,
        created_at,
    )
