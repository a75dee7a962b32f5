"""Where a search begins, and when it looks everywhere again."""

import time

import pytest

from slimtrack.outbox.floors import Floors


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have passed; the test sets them."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def search(floors: Floors[int], clock: list[float], *, seconds: float = 0) -> int | None:
    with floors.search() as floor:
        clock[0] += seconds
    return floor


def test_a_floor_is_kept_for_its_lifetime_however_often_it_moves(clock: list[float]) -> None:
    floors: Floors[int] = Floors(lifetime=4)
    assert search(floors, clock) is None
    floors.move(1)
    clock[0] += 3
    assert search(floors, clock) == 1
    floors.move(2)
    clock[0] += 1
    assert search(floors, clock) is None


def test_a_long_search_without_a_floor_is_repeated_the_more_seldom(clock: list[float]) -> None:
    floors: Floors[int] = Floors(lifetime=4)
    assert search(floors, clock, seconds=2) is None
    floors.move(1)
    clock[0] += 39
    assert search(floors, clock) == 1
    clock[0] += 1
    assert search(floors, clock) is None


def test_a_floor_that_was_dropped_is_gone_at_once(clock: list[float]) -> None:
    floors: Floors[int] = Floors(lifetime=4)
    assert search(floors, clock) is None
    floors.move(1)
    floors.drop()
    assert search(floors, clock) is None
