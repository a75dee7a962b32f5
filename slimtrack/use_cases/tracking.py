"""The use cases: what can be done with orders; each is one transaction."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

import structlog

from slimtrack import faults
from slimtrack.domain.errors import OrderNotFoundError, ReferenceTakenError
from slimtrack.domain.event import OrderEvent
from slimtrack.domain.idempotency import Answer, Once
from slimtrack.domain.listing import Found, Listing
from slimtrack.domain.order import NewOrder, Order, Status
from slimtrack.domain.timeline import Timeline
from slimtrack.routing import Schedule
from slimtrack.sql import orders, timeline
from slimtrack.sql.connection import Connection
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.listing import count_orders, list_orders, list_owners
from slimtrack.sql.pool import Pool, run, snapshot
from slimtrack.telemetry import metrics, tracing
from slimtrack.use_cases.changing import Changes, name_of
from slimtrack.use_cases.measuring import count_advanced, count_moved, trace_advanced
from slimtrack.use_cases.rehearsal import advance_tested
from slimtrack.use_cases.telling import due_times, make_timeline

_log: Final = structlog.get_logger()

T = TypeVar("T")

#: Seconds for which the answers to commands are given again, unless it is said otherwise.
_ANSWER_LIFETIME: Final = 86_400.0


class Tracking:
    """Everything that can be asked of orders, for any front end.

    Where a tenant is asked for, None is for anybody's orders, as operators see them.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        wake_up: tells the publisher that rows may be due; called after each commit that made some.
        schedule: when each stage is due.
        fan_out: whether events are published for other services.
        answer_lifetime: seconds for which the answers to commands are given again.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wake_up: Callable[[], None],
        schedule: Schedule,
        fan_out: bool = False,
        answer_lifetime: float = _ANSWER_LIFETIME,
    ) -> None:
        self._pool = pool
        self._wake_up = wake_up
        self._schedule = schedule
        self._fan_out = fan_out
        self._answer_lifetime = answer_lifetime

    def place(self, new: NewOrder) -> Order:
        """Store a new order, its first event and its first outbox row.

        Raises:
            ReferenceTakenError: another order already has this reference.
            UnavailableError: the database does not answer.
        """
        placed = self._retried(lambda connection: self._changes(connection).place(new))
        self._wake_up()
        if isinstance(placed, UUID):
            raise ReferenceTakenError(reference=new.reference or "", order_id=placed)
        metrics.ORDERS_ACCEPTED.inc()
        return placed

    def place_many(self, new: Sequence[NewOrder]) -> list[Order | UUID]:
        """Store many orders at once; see ``Changes.place``.

        A call whose outcome is unknown may be repeated.

        Raises:
            UnavailableError: the database does not answer.
        """
        outcomes = self._retried(lambda connection: self._changes(connection).place_many(new))
        self._wake_up()
        metrics.ORDERS_ACCEPTED.inc(sum(isinstance(outcome, Order) for outcome in outcomes))
        return outcomes

    def execute(self, command: Callable[[Changes], Answer], *, once: Once | None = None) -> Answer:
        """Carry out a command and return its answer.

        With ``once``, its effect and its answer are one transaction: repeated, it has no effect and
        the same answer. An error that the command raises leaves no trace.

        Raises:
            KeyReusedError: the key was used for another command.
            KeyInUseError: a command with this key is being carried out.
            UnavailableError: the database does not answer; without ``once`` the command may
                have been carried out nevertheless.
        """
        changes: Changes | None = None

        def carry_out(connection: Connection) -> Answer:
            nonlocal changes
            changes = self._changes(connection)
            if once is None:
                return command(changes)
            with connection.transaction():
                return _carry_out_once(changes, command, once)

        faults.point("place.before_commit")
        answer = self._retried(
            carry_out,
            repeatable=lambda: bool(once) or changes is None or not changes.has_appended,
        )
        faults.point("place.after_commit")
        self._wake_up()
        if changes:
            metrics.ORDERS_ACCEPTED.inc(changes.placed)
            count_moved(changes.moved)
        return answer

    def get(self, order: UUID | int, *, tenant_id: int | None = None) -> Order:
        """Return one order, by its id or its tracking number.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """

        def find(connection: Connection) -> Order | None:
            order_id = _find_id(connection, order)
            if order_id is None:
                return None
            return orders.get_order(connection, order_id, tenant_id=tenant_id)

        found = self._retried(find)
        if not found:
            raise OrderNotFoundError(name_of(order))
        return found

    def version(self, order_id: UUID, *, tenant_id: int | None = None) -> int:
        """Return which version of itself an order is.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """
        version = self._retried(
            lambda connection: orders.get_version(connection, order_id, tenant_id=tenant_id)
        )
        if version is None:
            raise OrderNotFoundError(order_id)
        return version

    def list(self, listing: Listing, *, limit: int, offset: int = 0) -> Found:
        """Return the orders that a listing asks for.

        There may be more of them although there are less than ``limit``, if it asks for what few
        have: all up to the reach are looked at, and the next list goes on from there.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._retried(
            lambda connection: list_orders(connection, listing, limit=limit, offset=offset)
        )

    def count(self, listing: Listing, *, limit: int) -> int:
        """Return how many orders are in the statuses of a listing, counting up to a limit.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._retried(lambda connection: count_orders(connection, listing, limit=limit))

    def owners(self, order_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Return what the tenants of orders are called.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._retried(lambda connection: list_owners(connection, order_ids))

    def history(self, order: UUID | int, *, tenant_id: int | None = None) -> Sequence[OrderEvent]:
        """Return the events of one order, oldest first.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """

        def find(connection: Connection) -> Sequence[OrderEvent]:
            order_id = _find_id(connection, order)
            if order_id is None:
                return []
            return orders.list_order_events(connection, order_id, tenant_id=tenant_id)

        events = self._retried(find)
        if not events:
            raise OrderNotFoundError(name_of(order))
        return events

    def timeline(self, order: UUID | int, *, tenant_id: int | None = None) -> Timeline:
        """Return all that happened to one order, each after what caused it, and what is awaited.

        Raises:
            OrderNotFoundError: there is no such order.
            UnavailableError: the database does not answer.
        """

        def read(connection: Connection) -> Timeline | None:
            with snapshot(connection):
                order_id = _find_id(connection, order)
                found = order_id and orders.get_order(connection, order_id, tenant_id=tenant_id)
                if not found:
                    return None
                events = timeline.list_timeline_events(connection, found.id)
                incidents = timeline.list_incidents(connection, [found.id]).get(found.id, ())
                open_rows, read_at = timeline.find_open_rows(
                    connection, found.id, due_ats=due_times(events, incidents)
                )
            return make_timeline(found, events, incidents, open_rows, read_at=read_at)

        told = self._retried(read)
        if not told:
            raise OrderNotFoundError(name_of(order))
        return told

    def revisions(self, order_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Return of orders what differs whenever their timeline tells more.

        Those that are not there are left out.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._retried(lambda connection: timeline.list_revisions(connection, order_ids))

    def advance(self, stage: Status, ids: Sequence[int]) -> orders.Advanced:
        """Bring the orders of a set of outbox rows through a stage; repeats have no effect.

        Raises:
            SimulatedFailureError: a row is of a test order that asks for it; all others are done.
            psycopg.Error: nothing has changed.
        """
        faults.point("actor.before_statement")
        began = time.time_ns()
        with self._pool.connection() as connection:
            advanced, observed = orders.advance_orders(
                connection,
                ids,
                stage=stage,
                following=self._schedule.after(stage),
                fan_out=self._fan_out,
                traced=tracing.active() is not None,
            )
            count_advanced(stage, stage, advanced, observed)
            trace_advanced(stage, observed, began=began)
            if advanced.claimed < len(ids):  # repeats, or test orders
                tested = advance_tested(
                    connection,
                    ids,
                    stage=stage,
                    schedule=self._schedule,
                    changes=self._changes(connection),
                    fan_out=self._fan_out,
                )
                advanced = advanced.plus(tested)
                metrics.DUPLICATES[stage].inc(len(ids) - advanced.claimed)
        # Always: a stage that was at its bound has room again, whether or not rows were made.
        self._wake_up()
        if advanced.moved < advanced.claimed:
            _log.info("orders.unmoved", stage=stage, claimed=advanced.claimed, moved=advanced.moved)
        faults.point("actor.after_commit")
        return advanced

    def _changes(self, connection: Connection) -> Changes:
        return Changes(
            connection,
            schedule=self._schedule,
            fan_out=self._fan_out,
            answer_lifetime=self._answer_lifetime,
        )

    def _retried(
        self,
        work: Callable[[Connection], T],
        *,
        repeatable: Callable[[], bool] = lambda: True,
    ) -> T:
        with unavailable_if_away():
            return run(self._pool, work, repeatable=repeatable)


def _find_id(connection: Connection, order: UUID | int) -> UUID | None:
    return order if isinstance(order, UUID) else orders.find_order_id(connection, order)


def _carry_out_once(changes: Changes, command: Callable[[Changes], Answer], once: Once) -> Answer:
    known = changes.recall(once)
    if known:
        return known
    answer = command(changes)
    changes.remember({once: answer.body}, status=answer.status, headers=answer.headers)
    return answer
