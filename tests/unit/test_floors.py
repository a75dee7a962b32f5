"""Where a search begins, and when it looks everywhere again."""

from slimtrack.outbox.floors import Floors


class Clock:
    """Tells the seconds that the test says have passed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def search(floors: Floors[int], clock: Clock, *, seconds: float = 0) -> int | None:
    with floors.search() as floor:
        clock.now += seconds
    return floor


def test_a_floor_is_kept_for_its_lifetime_however_often_it_moves() -> None:
    clock = Clock()
    floors: Floors[int] = Floors(lifetime=4, clock=clock)
    assert search(floors, clock) is None
    floors.move(1)
    clock.now += 3
    assert search(floors, clock) == 1
    floors.move(2)
    clock.now += 1
    assert search(floors, clock) is None


def test_a_long_search_without_a_floor_is_repeated_the_more_seldom() -> None:
    clock = Clock()
    floors: Floors[int] = Floors(lifetime=4, clock=clock)
    assert search(floors, clock, seconds=2) is None
    floors.move(1)
    clock.now += 39
    assert search(floors, clock) == 1
    clock.now += 1
    assert search(floors, clock) is None


def test_a_floor_that_was_dropped_is_gone_at_once() -> None:
    clock = Clock()
    floors: Floors[int] = Floors(lifetime=4, clock=clock)
    assert search(floors, clock) is None
    floors.move(1)
    floors.drop()
    assert search(floors, clock) is None
