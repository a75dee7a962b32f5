"""Working through a set: what is bad in it is found, what is good in it is done."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil, log2
from threading import Barrier, BrokenBarrierError

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimtrack.actors.lock import SharedLock
from slimtrack.actors.stages import Turns, work_alone, work_through
from slimtrack.domain.retry import Failure, ProcessKilledError, SetFailedError, Suspect


class Work:
    """Does a set or, where ``refuse`` raises, nothing of it, as a transaction would."""

    def __init__(self, refuse: Callable[[Sequence[int]], None]) -> None:
        self.done: list[int] = []
        self.calls = 0
        self._refuse = refuse

    def __call__(self, ids: Sequence[int]) -> None:
        self.calls += 1
        self._refuse(ids)
        self.done += ids


def refusing(bad: set[int]) -> Work:
    def refuse(ids: Sequence[int]) -> None:
        if bad.intersection(ids):
            raise ValueError(sorted(bad.intersection(ids)))

    return Work(refuse)


def new_turns() -> Turns:
    return Turns(SharedLock(), threading.Event())


def unsuspected(*ids: int) -> list[Suspect]:
    return [Suspect(row_id, ended_process=False) for row_id in ids]


def failing_from_call(number: int, *, bad: set[int], size: int) -> Work:
    def refuse(ids: Sequence[int]) -> None:
        assert 0 < len(ids) <= size
        if work.calls >= number:
            raise psycopg.OperationalError("the server closed the connection")
        if bad.intersection(ids):
            raise ValueError("bad")

    work = Work(refuse)
    return work


def test_a_good_set_is_one_call() -> None:
    work = refusing(set())
    work_through(range(1, 101), work)

    assert (work.calls, work.done) == (1, list(range(1, 101)))


def test_one_bad_row_fails_alone_and_is_found_by_halving() -> None:
    work = refusing({42})
    with pytest.raises(SetFailedError) as caught:
        work_through(range(100), work)

    [failure] = caught.value.failures
    assert list(failure.ids) == [42]
    assert isinstance(failure.error, ValueError)
    assert work.done == [row_id for row_id in range(100) if row_id != 42]
    assert work.calls <= 1 + 2 * ceil(log2(100))


@given(size=st.integers(1, 130), data=st.data())
def test_halving_fails_exactly_the_bad_rows_and_does_every_other_once(
    size: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1)))
    work = refusing(bad)
    failures: Sequence[Failure] = ()
    try:
        work_through(range(size), work)
    except SetFailedError as error:
        failures = error.failures

    assert all(len(each.ids) == 1 for each in failures)
    failed = {row_id: each.error for each in failures for row_id in each.ids}
    assert {row_id: error.args for row_id, error in failed.items()} == {
        row_id: ([row_id],) for row_id in bad
    }
    assert work.done == [row_id for row_id in range(size) if row_id not in bad]
    assert work.calls <= 1 + 2 * len(bad) * ceil(log2(size))


@given(size=st.integers(1, 130), call=st.integers(1, 40), data=st.data())
def test_an_outage_ends_the_halving_and_fails_exactly_what_is_not_done(
    size: int, call: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1)))
    work = failing_from_call(call, bad=bad, size=size)
    failed: list[tuple[type[BaseException], int]] = []
    try:
        work_through(range(size), work)
    except SetFailedError as error:
        failed = [(type(each.error), row_id) for each in error.failures for row_id in each.ids]

    delayed = [row_id for kind, row_id in failed if kind is psycopg.OperationalError]
    assert sorted(work.done + [row_id for _, row_id in failed]) == list(range(size))
    assert {row_id for kind, row_id in failed if kind is ValueError} == bad - set(delayed)
    assert work.calls <= call
    assert bool(delayed) == (work.calls == call)


def test_an_outage_is_not_tried_again_row_by_row() -> None:
    work = failing_from_call(1, bad=set(), size=100)
    with pytest.raises(SetFailedError, match="100 rows of the set failed, the first with: the"):
        work_through(range(100), work)

    assert work.calls == 1


def test_rows_alone_are_each_counted_directly_before_they_run() -> None:
    steps: list[tuple[str, int]] = []

    def count(row_id: int) -> bool:
        steps.append(("count", row_id))
        if row_id == 2:
            raise ProcessKilledError
        return row_id != 5

    def advance(row_id: int) -> None:
        steps.append(("advance", row_id))
        if row_id == 3:
            raise ValueError

    with pytest.raises(SetFailedError) as caught:
        work_alone(
            unsuspected(1, 2, 3, 4, 5),
            advance,
            begin_attempt=count,
            turns=new_turns(),
        )

    assert steps == [
        *[("count", 1), ("advance", 1), ("count", 2), ("count", 3), ("advance", 3)],
        *[("count", 4), ("advance", 4), ("count", 5)],
    ]
    assert [(each.ids, type(each.error), each.counted) for each in caught.value.failures] == [
        ([2], ProcessKilledError, True),
        ([3], ValueError, True),
    ]


@pytest.mark.parametrize("while_counting", [False, True])
def test_an_outage_fails_the_row_alone_and_those_after_it_uncounted(
    *, while_counting: bool
) -> None:
    def fail(_: object) -> bool:
        raise psycopg.OperationalError("gone")

    with pytest.raises(SetFailedError) as caught:
        work_alone(
            unsuspected(1, 2, 3),
            fail,
            begin_attempt=fail if while_counting else lambda row_id: row_id > 0,
            turns=new_turns(),
        )

    assert [(each.ids, each.counted) for each in caught.value.failures] == [
        ([1], not while_counting),
        ([2, 3], False),
    ]


@pytest.mark.parametrize(
    ("first", "second", "most"), [(False, False, 2), (True, False, 1), (False, True, 1)]
)
def test_a_row_that_ended_its_process_shares_it_with_no_other(
    *, first: bool, second: bool, most: int
) -> None:
    turns = new_turns()
    running: set[int] = set()
    together: list[int] = []
    both = Barrier(2)

    def advance(row_id: int) -> None:
        running.add(row_id)
        together.append(len(running))
        with suppress(BrokenBarrierError):
            both.wait(timeout=0.2)  # met by the other only where they run together
        running.remove(row_id)

    def work(row_id: int, ended_process: bool) -> None:  # noqa: FBT001 - an argument of submit
        suspect = Suspect(row_id, ended_process)
        work_alone([suspect], advance, begin_attempt=lambda _: True, turns=turns)

    with ThreadPoolExecutor(max_workers=2) as threads:
        done = [threads.submit(work, 1, first), threads.submit(work, 2, second)]
    assert [each.result() for each in done] == [None, None]
    assert len(together) == 2
    assert max(together) == most


@pytest.mark.parametrize("stops", [False, True])
def test_an_attempt_that_had_to_wait_does_not_begin_while_the_process_ends(*, stops: bool) -> None:
    turns = new_turns()
    begun: list[int] = []

    def begin(row_id: int) -> bool:
        begun.append(row_id)
        return False

    def work() -> None:
        work_alone([Suspect(1, ended_process=True)], print, begin_attempt=begin, turns=turns)

    with ThreadPoolExecutor(max_workers=1) as threads:
        with turns.lock.shared():
            done = threads.submit(work)
            while not turns.lock.is_awaited:
                time.sleep(0.001)
            if stops:
                turns.stopping.set()
        done.result()
    assert begun == ([] if stops else [1])


def test_who_wants_the_lock_alone_comes_before_later_shares() -> None:
    lock = SharedLock()
    order: list[str] = []

    def alone() -> None:
        with lock.alone():
            order.append("alone")

    def shared() -> None:
        with lock.shared():
            order.append("shared")

    with ThreadPoolExecutor(max_workers=2) as threads, lock.shared():
        threads.submit(alone)
        while not lock.is_awaited:
            time.sleep(0.001)
        threads.submit(shared)
    assert order == ["alone", "shared"]
