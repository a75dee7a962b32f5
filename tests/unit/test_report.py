"""What a report does to its order."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from slimtrack.domain.errors import TransitionNotAllowedError
from slimtrack.domain.order import TRANSITIONS, Flow, Order, Status
from slimtrack.domain.report import REPORTABLE, Effect, Report, effect_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def order(status: str, attempts: int) -> Order:
    state = (Flow.REPORTED, Status(status), attempts, 9, NOW, NOW)
    return Order(UUID(int=1), "SL-…", None, "Books", {}, *state)


def effect(status: str, attempt: int | None, now: Order) -> Effect | None:
    try:
        return effect_of(Report(status=Status(status), attempt=attempt), now)
    except TransitionNotAllowedError:
        return None


@pytest.mark.parametrize(
    ("status", "attempts", "report", "effects"),
    [
        # What a report without an attempt does, then one of attempt 1, 2 and 3.
        ("in_transit", 0, "out_for_delivery", ("moves", "moves", None, None)),
        ("in_transit", 0, "delivered", (None, None, None, None)),
        ("in_transit", 0, "processing", ("late", None, None, None)),
        ("out_for_delivery", 1, "delivery_failed", ("moves", "moves", None, None)),
        ("out_for_delivery", 1, "out_for_delivery", ("late", "late", None, None)),
        ("delivery_failed", 1, "delivery_failed", ("late", "late", None, None)),
        ("delivery_failed", 1, "out_for_delivery", ("moves", "late", "moves", None)),
        ("delivery_failed", 1, "returned", ("moves", "moves", None, None)),
        ("out_for_delivery", 2, "delivery_failed", ("moves", "late", "moves", None)),
        ("out_for_delivery", 2, "delivered", ("moves", "late", "moves", None)),
        ("out_for_delivery", 2, "lost", ("moves", "late", "moves", None)),
        ("delivered", 2, "delivery_failed", ("late", "late", "late", None)),
        ("delivered", 2, "lost", (None, "late", None, None)),
        ("delivered", 2, "returned", (None, None, None, None)),
    ],
)
def test_an_attempt_that_is_over_is_late_and_one_that_is_to_come_is_refused(
    status: str, attempts: int, report: str, effects: tuple[str | None, ...]
) -> None:
    seen = [effect(report, attempt, order(status, attempts)) for attempt in (None, 1, 2, 3)]
    assert [each and each.name.lower() for each in seen] == list(effects)


@pytest.mark.parametrize("status", Status)
def test_no_attempt_allows_a_move_that_a_report_without_one_may_not_make(status: Status) -> None:
    for report in REPORTABLE:
        for attempt in (None, 1, 2, 3):
            if effect(report, attempt, order(status, 2)) is Effect.MOVES:
                assert report in TRANSITIONS[status]
