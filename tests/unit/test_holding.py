"""One look that serves everybody."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from slimtrack.domain.errors import UnavailableError
from slimtrack.use_cases.holding import Held


def test_those_who_wait_for_a_look_that_fails_do_not_look_again() -> None:
    looks = 0
    everybody = threading.Barrier(5)

    def look() -> int:
        nonlocal looks
        looks += 1
        time.sleep(0.1)
        raise UnavailableError

    held = Held(look, seconds=60)

    def ask() -> int:
        everybody.wait()
        return held.get()

    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(ask) for _ in range(5)]
    for each in asked:
        with pytest.raises(UnavailableError):
            each.result()
    assert looks == 1


def test_what_was_seen_holds_for_a_while_whatever_it_was() -> None:
    answers = iter([0, 1])

    def look() -> float:
        return 1 / next(answers)

    held = Held(look, seconds=0.2)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            held.get()
    time.sleep(0.25)
    assert held.get() == 1
    assert held.get() == 1
