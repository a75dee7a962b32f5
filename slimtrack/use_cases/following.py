"""The use case of following: what somebody who waits for a parcel is told."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Final
from uuid import UUID

import structlog

from slimtrack.domain.errors import OrderNotFoundError, UnavailableError
from slimtrack.domain.following import Expectation, Followed, Lead, expect
from slimtrack.domain.order import FINAL, Flow, Status
from slimtrack.domain.tracking_code import format_code
from slimtrack.routing import Schedule
from slimtrack.sql import following, orders
from slimtrack.sql.connection import Connection
from slimtrack.sql.errors import unavailable_if_away
from slimtrack.sql.pool import Pool, run, snapshot
from slimtrack.sql.watching import prefer_indexes

_log: Final = structlog.get_logger()

#: Seconds for which it holds what a tenant's orders took, and that this could not be measured.
_LEADS_HOLD: Final = 60.0
_FAILURE_HOLDS: Final = 10.0
#: Orders that are looked at for that, those of them that are read, and how many tell something.
_CHANGED: Final = 1_000
_SAMPLE: Final = 300
_FEW: Final = 5
#: Without any history, how much longer than configured a delivery may usually take.
_SLACK: Final = 1.5

Leads = Mapping[tuple[Flow, Status], Lead]


@dataclass(slots=True)
class _Measurement:
    """What a tenant's orders took, None where nobody knows; whoever has the lock measures it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    leads: Leads | None = None
    good_until: float = -inf


class Following:
    """Everything that a tracking code tells.

    Every method raises ``UnavailableError`` where the database does not answer.

    Args:
        pool: connections to PostgreSQL, in autocommit.
        schedule: when each stage is due.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        schedule: Schedule,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._schedule = schedule
        self._clock = clock
        self._measurements: dict[int, _Measurement] = {}

    def follow(self, tracking_number: int) -> tuple[Followed, Expectation | None]:
        """Return an order, and when its delivery is expected; None where nobody can tell.

        Raises:
            OrderNotFoundError: there is no such order.
        """
        with unavailable_if_away():
            followed = run(self._pool, lambda connection: _find(connection, tracking_number))
        if followed is None or not followed.passed:  # being pruned, it may have no events left
            raise OrderNotFoundError(format_code(tracking_number))
        lead = None if followed.status in FINAL else self._lead_of(followed)
        if lead is None:
            return followed, None
        reached_at = followed.passed[-1].occurred_at
        return followed, expect(reached_at, lead, now=datetime.now(UTC))

    def find_id(self, tracking_number: int) -> UUID:
        """Return the id of an order.

        Raises:
            OrderNotFoundError: there is no such order.
        """
        with unavailable_if_away():
            order_id = run(
                self._pool, lambda connection: orders.find_order_id(connection, tracking_number)
            )
        if order_id is None:
            raise OrderNotFoundError(format_code(tracking_number))
        return order_id

    def versions(self, order_ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """Return which versions of themselves orders are, with one statement."""
        with unavailable_if_away():
            return run(
                self._pool, lambda connection: following.list_versions(connection, order_ids)
            )

    def _lead_of(self, followed: Followed) -> Lead | None:
        if followed.status is Status.DELIVERY_FAILED and not self._is_tried_again(followed):
            return None
        leads = self._measured(followed.tenant_id)
        if leads is None:
            return None
        known = leads.get((followed.flow, followed.status))
        if known or followed.flow is Flow.REPORTED:
            return known
        return self._configured(followed)

    def _is_tried_again(self, followed: Followed) -> bool:
        if followed.flow is Flow.REPORTED:
            return True  # as far as anybody knows
        due = self._schedule.after(followed.status, delivery_attempts=followed.delivery_attempts)
        return due.stage is not Status.RETURNED

    def _configured(self, followed: Followed) -> Lead:
        """Return what the stages take that lie ahead if all goes well."""
        seconds = 0.0
        status = followed.status
        while status is not Status.DELIVERED:
            due = self._schedule.after(status, delivery_attempts=followed.delivery_attempts)
            assert due.stage  # noqa: S101 - only a final status has none, and one that is returned
            seconds += due.delay
            status = due.stage
        return Lead(seconds, seconds * _SLACK)

    def _measured(self, tenant_id: int) -> Leads | None:
        """Return what a tenant's orders took, measured seldom, while nobody else waits for it."""
        measurement = self._measurements.setdefault(tenant_id, _Measurement())
        if self._clock() >= measurement.good_until and measurement.lock.acquire(blocking=False):
            try:
                self._renew(measurement, tenant_id)
            finally:
                measurement.lock.release()
        return measurement.leads

    def _renew(self, measurement: _Measurement, tenant_id: int) -> None:
        hold = _FAILURE_HOLDS
        try:
            measurement.leads = self._measure(tenant_id)
            hold = _LEADS_HOLD
        except UnavailableError as error:
            # The page is right without an expected time; what was known before is better than none.
            _log.warning("leads.unmeasured", tenant=tenant_id, error=str(error))
        finally:
            measurement.good_until = self._clock() + hold

    def _measure(self, tenant_id: int) -> Leads:
        def measure(connection: Connection) -> Leads:
            with snapshot(connection):
                prefer_indexes(connection)
                return following.measure_leads(
                    connection, tenant_id=tenant_id, most=_CHANGED, sample=_SAMPLE, few=_FEW
                )

        with unavailable_if_away():
            return run(self._pool, measure)


def _find(connection: Connection, tracking_number: int) -> Followed | None:
    """Return an order as of one moment: events up to the version that was read never change."""
    order = following.find_followed_order(connection, tracking_number)
    if order is None:
        return None
    return Followed(
        tracking_code=format_code(tracking_number),
        tenant_id=order.tenant_id,
        flow=order.flow,
        delivery_attempts=order.delivery_attempts,
        version=order.version,
        passed=following.list_passed(connection, order.id, version=order.version),
    )
