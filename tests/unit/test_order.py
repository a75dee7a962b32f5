"""Orders, their statuses and moves, and the ids they get."""

import time
from uuid import RFC_4122

import pytest

from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import FINAL, JOURNEY, TRANSITIONS, Status, new_order_id, sources_of


def test_every_status_declares_its_moves_and_says_what_it_means() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert set(MESSAGES) == set(Status)


def test_an_order_ends_delivered_cancelled_returned_or_lost() -> None:
    assert {Status.DELIVERED, Status.CANCELLED, Status.RETURNED, Status.LOST} == FINAL


def test_no_move_leads_back_to_received_or_from_a_status_to_itself() -> None:
    assert sources_of(Status.RECEIVED) == ()
    assert not any(status in allowed for status, allowed in TRANSITIONS.items())


@pytest.mark.parametrize("status", Status)
def test_every_status_can_be_reached_and_left_for_a_final_one(status: Status) -> None:
    def reachable(source: Status) -> set[Status]:
        seen = {source}
        while more := {after for each in seen for after in TRANSITIONS[each]} - seen:
            seen |= more
        return seen

    assert status in reachable(Status.RECEIVED)
    assert reachable(status) & FINAL


@pytest.mark.parametrize("status", Status)
def test_the_sources_of_a_status_are_those_that_may_move_to_it(status: Status) -> None:
    assert set(sources_of(status)) == {each for each in Status if status in TRANSITIONS[each]}


def test_the_stages_lead_from_received_to_delivered_by_declared_moves() -> None:
    assert all(
        stage in TRANSITIONS[before]
        for before, stage in zip((Status.RECEIVED, *JOURNEY), JOURNEY, strict=False)
    )
    assert JOURNEY[-1] is Status.DELIVERED


def test_a_new_id_is_a_uuid_of_version_7_that_holds_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_order_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000

    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    assert all(before <= each.int >> 80 <= after for each in ids)
    assert len(set(ids)) == len(ids)


def test_an_id_that_is_made_later_sorts_later() -> None:
    ids = []
    for _ in range(20):
        ids.append(new_order_id())
        time.sleep(0.002)

    assert sorted(ids, key=str) == sorted(ids) == ids
