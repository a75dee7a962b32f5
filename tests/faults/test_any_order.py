"""Messages that come twice, late, shuffled or to the wrong stage, among failures and replays."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg_pool import ConnectionPool

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import JOURNEY, NewOrder, Status, new_order_id
from slimtrack.domain.retry import Failure, ProcessKilledError, RetryPolicy
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking

POLICY = RetryPolicy(max_retries=1, min_backoff=0.0, max_backoff=0.0)
ACTION = OperatorAction(operator="machine")
WAY = [Status.RECEIVED, *JOURNEY]

_stages = st.sampled_from(JOURNEY)
_choice = st.randoms(use_true_random=False)


@dataclass
class World:
    """What the machine acts on, and what came of all its runs."""

    connection: psycopg.Connection[Any]
    tracking: Tracking
    retrying: Retrying
    dead_letters: DeadLetters
    auditing: Auditing
    delivered: int = 0


class Machine(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.connection.execute("TRUNCATE orders, order_events, outbox, dead_letters")
        self.placed: set[UUID] = set()
        #: Every row that ever was, whoever may still have a message that names it.
        self.rows: list[int] = []

    def look(self) -> None:
        found = self.world.connection.execute("SELECT id FROM outbox ORDER BY id").fetchall()
        self.rows = sorted({*self.rows, *(row[0] for row in found)})

    @rule(count=st.integers(1, 4))
    def place(self, count: int) -> None:
        new = [NewOrder(id=new_order_id(), description="A parcel") for _ in range(count)]
        self.world.tracking.place_many(new)
        self.placed.update(order.id for order in new)
        self.look()

    @precondition(lambda self: self.rows)
    @rule(stage=_stages, random=_choice, count=st.integers(1, 8))
    def deliver(self, stage: Status, random: Any, count: int) -> None:
        """A message of any rows, old ones among them, some twice."""
        self.world.tracking.advance(stage, random.choices(self.rows, k=count))
        self.look()

    @precondition(lambda self: self.rows)
    @rule(stage=_stages, random=_choice, outage=st.booleans(), counted=st.booleans())
    def fail(self, stage: Status, random: Any, *, outage: bool, counted: bool) -> None:
        row = random.choice(self.rows)
        with suppress(ProcessKilledError):
            counted = counted and self.world.retrying.begin_attempt(stage, row)
        error = psycopg.OperationalError("gone") if outage else ValueError("no")
        self.world.retrying.settle(
            stage, [Failure(ids=[row], error=error, counted=counted)], POLICY
        )

    @rule()
    def publish(self) -> None:
        self.world.connection.execute(
            "UPDATE outbox SET published_at = now(), publications = publications + 1"
            " WHERE published_at IS NULL"
        )

    @rule()
    def forget(self) -> None:
        """The broker loses everything, and all of it is due again."""
        self.world.connection.execute("UPDATE outbox SET published_at = NULL")

    @precondition(lambda self: self.rows)
    @rule(random=_choice)
    def restore(self, random: Any) -> None:
        """A row that was done long ago is there again, as after the restore of a backup."""
        done = self.world.connection.execute(
            "SELECT order_id, sequence - 1, status FROM order_events WHERE sequence > 1"
        ).fetchall()
        if done:
            order_id, from_sequence, stage = random.choice(done)
            self.world.connection.execute(
                "INSERT INTO outbox (stage, order_id, from_sequence) VALUES (%s, %s, %s)",
                (stage, order_id, from_sequence),
            )
            self.look()

    @rule()
    def replay(self) -> None:
        self.world.dead_letters.replay(Selection(), action=ACTION)
        self.look()

    @invariant()
    def nothing_is_broken(self) -> None:
        report = self.world.auditing.audit()
        broken = {finding.name for finding in report.findings if finding.broken}
        assert broken <= {"doubles"}, report  # a restored row is one, until it is delivered
        assert sum(report.orders.values()) == len(self.placed)

    def teardown(self) -> None:
        """However it went: replayed and delivered, every order has gone its whole way once."""
        self.replay()
        for stage in JOURNEY:
            self.world.tracking.advance(stage, self.rows)
            self.look()
        histories = self.world.connection.execute(
            "SELECT order_id, array_agg(status ORDER BY sequence) FROM order_events"
            " GROUP BY order_id"
        ).fetchall()
        assert {row[0] for row in histories} == self.placed
        assert all(row[1] == WAY for row in histories)
        assert self.world.connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        self.world.delivered += len(histories)


def test_whatever_comes_in_whatever_order_every_order_goes_its_way_once(
    tracking: Tracking,
    retrying: Retrying,
    pool: ConnectionPool,
    connection: psycopg.Connection[Any],
) -> None:
    world = World(
        connection,
        tracking,
        retrying,
        DeadLetters(pool, wake_up=lambda: None),
        Auditing(pool, deadlines=dict.fromkeys(JOURNEY, 60.0)),
    )
    run_state_machine_as_test(
        cast("type[Machine]", partial(Machine, world)),  # it is called, and nothing else
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert world.delivered > 40
