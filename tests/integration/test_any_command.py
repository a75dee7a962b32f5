"""Whatever callers and messages do in whatever order: only declared moves, one event for each."""

import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg_pool import ConnectionPool

from slimtrack.domain.errors import EventNotFoundError, StaleVersionError, TransitionNotAllowedError
from slimtrack.domain.idempotency import Answer, Once
from slimtrack.domain.order import FINAL, STAGES, Flow, NewOrder, Status, new_order_id
from slimtrack.domain.report import REPORTABLE, Report
from slimtrack.domain.schedule import DeliveryPolicy
from slimtrack.routing import Schedule
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking

#: The moves that an order may make, written down a second time on purpose.
MOVES = {
    ("received", "processing"),
    ("received", "cancelled"),
    ("processing", "in_transit"),
    ("processing", "cancelled"),
    ("in_transit", "out_for_delivery"),
    ("in_transit", "lost"),
    ("out_for_delivery", "delivered"),
    ("out_for_delivery", "delivery_failed"),
    ("out_for_delivery", "lost"),
    ("delivery_failed", "out_for_delivery"),
    ("delivery_failed", "returned"),
    ("delivery_failed", "lost"),
}
_orders = st.integers(0, 3)


class AnyCommand(RuleBasedStateMachine):
    """Four orders, two of them simulated, and everybody who may do something with them."""

    world: ClassVar[tuple[Tracking, psycopg.Connection[Any]]]
    done: ClassVar[dict[str, int]]

    def __init__(self) -> None:
        super().__init__()
        self.tracking, self.connection = self.world
        self.delivered: list[tuple[Status, list[int]]] = []
        self.expected: dict[UUID, int] = {}

    @initialize()
    def place(self) -> None:
        self.connection.execute(
            "TRUNCATE orders, order_statuses, order_events, outbox, idempotency_keys"
        )
        flows = [Flow.SIMULATED, Flow.SIMULATED, Flow.REPORTED, Flow.REPORTED]
        self.orders = [
            self.tracking.place(NewOrder(id=new_order_id(), description="x", flow=flow)).id
            for flow in flows
        ]
        self.expected = dict.fromkeys(self.orders, 1)

    def command(
        self, order: int, run: Any, *, once: Once | None = None, repeats: bool = False
    ) -> None:
        """Carry out a command: it makes one event, or is refused and makes none."""

        def answered(changes: Changes) -> Answer:
            run(changes)
            return Answer(status=200, headers={}, body=b"done")

        try:
            answer = self.tracking.execute(answered, once=once)
        except (TransitionNotAllowedError, StaleVersionError, EventNotFoundError) as error:
            self.done[type(error).__name__] += 1
            return
        assert not repeats or answer.replayed
        self.done["replayed" if answer.replayed else "done"] += 1
        self.expected[self.orders[order]] += not answer.replayed

    @rule(order=_orders, status=st.sampled_from(sorted(REPORTABLE)), version=st.none() | _orders)
    def report(self, order: int, status: Status, version: int | None) -> None:
        target = Target(order=self.orders[order], tenant_id=1, version=version)
        self.command(order, lambda changes: changes.report(target, Report(status=status)))

    @rule(order=_orders, status=st.sampled_from(sorted(REPORTABLE)), attempt=st.integers(1, 3))
    def report_of_an_attempt(self, order: int, status: Status, attempt: int) -> None:
        target = Target(order=self.orders[order], tenant_id=1)
        before = self.tracking.get(self.orders[order])
        report = Report(status=status, attempt=attempt)
        self.command(order, lambda changes: changes.report(target, report))
        after = self.tracking.get(self.orders[order])
        if after.status is not before.status:
            assert after.delivery_attempts == attempt
        if after.version > before.version:
            assert self.tracking.history(self.orders[order])[-1].attempt == attempt
            assert after.delivery_attempts >= attempt

    @rule(order=_orders, status=st.sampled_from(sorted(REPORTABLE)), key=st.integers(0, 5))
    def report_once(self, order: int, status: Status, key: int) -> None:
        target = Target(order=self.orders[order], tenant_id=1)
        # The same key is always the same command.
        once = Once(tenant_id=1, key=f"{order}:{status}:{key}", fingerprint=b"x" * 32)
        run = lambda changes: changes.report(target, Report(status=status))  # noqa: E731 - twice
        before = self.done["done"]
        self.command(order, run, once=once)
        if self.done["done"] > before:
            self.command(order, run, once=once, repeats=True)

    @rule(order=_orders)
    def cancel(self, order: int) -> None:
        target = Target(order=self.orders[order], tenant_id=1)
        self.command(order, lambda changes: changes.cancel(target, reason="x"))

    @rule(order=_orders, sequence=st.integers(1, 9))
    def correct(self, order: int, sequence: int) -> None:
        target = Target(order=self.orders[order], tenant_id=1)
        self.command(
            order,
            lambda changes: changes.correct(
                target, sequence=sequence, message="wrong", source=None
            ),
        )

    @rule(stage=st.sampled_from(STAGES), seed=st.randoms())
    def deliver(self, stage: Status, seed: random.Random) -> None:
        rows = self.connection.execute("SELECT id FROM outbox WHERE stage = %s", [stage])
        ids = [row[0] for row in rows]
        seed.shuffle(ids)
        self.deliver_set(stage, ids)
        self.delivered.append((stage, ids))

    @rule(choice=st.integers(0, 99))
    def deliver_late(self, choice: int) -> None:
        if self.delivered:
            self.deliver_set(*self.delivered[choice % len(self.delivered)])

    @rule(stage=st.sampled_from(STAGES))
    def misdirect(self, stage: Status) -> None:
        ids = [row[0] for row in self.connection.execute("SELECT id FROM outbox")]
        self.deliver_set(stage, ids)

    def deliver_set(self, stage: Status, ids: list[int]) -> None:
        advanced = self.tracking.advance(stage, ids)
        self.done["moved"] += advanced.moved
        rows = self.connection.execute("SELECT id, version FROM orders").fetchall()
        grown = {order: version - self.expected[order] for order, version in rows}
        assert sum(grown.values()) == advanced.moved
        assert set(grown.values()) <= {0, 1}
        self.expected = dict(rows)

    @invariant()
    def every_order_is_as_its_history_says(self) -> None:
        for order, expected in self.expected.items():
            events = self.tracking.history(order)
            assert [event.sequence for event in events] == list(range(1, expected + 1))
            way = [event.status for event in events if event.kind == "transition"]
            assert way[0] is Status.RECEIVED
            assert set(pairwise(way)) <= MOVES
            current = self.tracking.get(order)
            assert (current.status, current.version) == (way[-1], expected)
            waiting = self.connection.execute(
                "SELECT count(*) FROM outbox WHERE order_id = %s", [order]
            ).fetchone()
            assert waiting
            if current.status not in FINAL and current.flow is Flow.SIMULATED:
                assert waiting[0], "nobody works on it"


@pytest.fixture
def world(pool: ConnectionPool, connection: psycopg.Connection) -> Iterator[None]:
    schedule = Schedule(
        dict.fromkeys(STAGES, 0.0), deliveries=DeliveryPolicy(pause=0.0, attempts=2)
    )
    AnyCommand.world = (Tracking(pool, wake_up=lambda: None, schedule=schedule), connection)
    errors = (TransitionNotAllowedError, StaleVersionError, EventNotFoundError)
    names = ("done", "replayed", "moved", *(error.__name__ for error in errors))
    AnyCommand.done = dict.fromkeys(names, 0)
    yield
    with suppress(AttributeError):
        del AnyCommand.world


@pytest.mark.usefixtures("world")
def test_no_sequence_of_commands_and_messages_makes_an_undeclared_move() -> None:
    run_state_machine_as_test(
        AnyCommand,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(AnyCommand.done)  # noqa: T201 - shown where the test fails
    # Each of them has happened; how often is chance.
    assert min(AnyCommand.done.values()) > 5
