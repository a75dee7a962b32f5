"""Test orders: each is brought through a stage in the way that its reference asks for."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from slimtrack.domain.errors import TransitionNotAllowedError
from slimtrack.domain.order import Status
from slimtrack.domain.outcome import Outcome, SimulatedFailureError
from slimtrack.domain.schedule import Due
from slimtrack.routing import Schedule
from slimtrack.sql import orders
from slimtrack.sql.connection import Connection
from slimtrack.telemetry import tracing
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.measuring import count_advanced, count_moved, trace_advanced

#: How much later than usual the stage of a slow test order is due.
_SLOW: Final = 30.0


def advance_tested(
    connection: Connection,
    ids: Sequence[int],
    *,
    stage: Status,
    schedule: Schedule,
    changes: Changes,
    fan_out: bool,
) -> orders.Advanced:
    """Bring those of some rows' orders through a stage that are test orders.

    Raises:
        SimulatedFailureError: an order asks for it; all others are done.
    """
    advanced = orders.Advanced(0, 0)
    failure: SimulatedFailureError | None = None
    for row in orders.find_tested_rows(connection, ids, stage=stage):
        if _fails(row, stage):
            failure = SimulatedFailureError(row.outcome)
            continue
        if stage is Status.IN_TRANSIT and row.outcome is Outcome.CANCELLED:
            # It may be cancelled, or further, already: by its owner, a report, or this very line in
            # a worker that died behind it.
            with suppress(TransitionNotAllowedError):
                target = Target(order=row.order_id, tenant_id=None)
                count_moved([changes.cancel(target, reason="test")])
        reached = _reached(row, stage)
        began = time.time_ns()
        one, observed = orders.advance_orders(
            connection,
            [row.id],
            stage=stage,
            following=_following(row, reached, schedule),
            fan_out=fan_out,
            to_status=reached,
            with_tests=True,
            traced=tracing.active() is not None,
        )
        count_advanced(stage, reached, one, observed)
        trace_advanced(stage, observed, began=began)
        advanced = advanced.plus(one)
    if failure:
        raise failure
    return advanced


def _fails(row: orders.TestedRow, stage: Status) -> bool:
    if stage is not Status.IN_TRANSIT:
        return False
    return row.outcome is Outcome.FAILS_ALWAYS or (
        row.outcome is Outcome.FAILS_ONCE and not row.failures
    )


def _reached(row: orders.TestedRow, stage: Status) -> Status:
    """Return what a test order reaches by a stage: a delivery may fail."""
    fails = row.outcome is Outcome.RETURNED or (
        row.outcome is Outcome.DELIVERY_FAILED and row.delivery_attempts == 1
    )
    return Status.DELIVERY_FAILED if stage is Status.DELIVERED and fails else stage


def _following(row: orders.TestedRow, status: Status, schedule: Schedule) -> Due:
    due = schedule.after(status, delivery_attempts=row.delivery_attempts)
    if due.stage is Status.IN_TRANSIT and row.outcome is Outcome.SLOW:
        return due._replace(delay=due.delay + _SLOW)
    return due
