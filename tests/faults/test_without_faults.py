"""A test of this folder that is run without its fault fails: what it shows is not by chance."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Tests, and what each says where its fault did not happen.
TESTS = {
    "test_crash_points.py::test_a_process_killed_at_a_crash_point_loses_and_doubles_nothing"
    "[actor.after_commit-1]": "actor.after_commit is passed",
    "test_outages.py::test_a_broker_that_forgets_everything_costs_seconds_and_no_order": (
        "the broker never went"
    ),
    "test_outages.py::test_a_broker_that_takes_nothing_while_work_fails_loses_nothing"
    "[a memory alarm]": "the fault is felt: broker.blocked",
}


@pytest.mark.timeout(300)
def test_without_its_fault_a_test_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *(str(HERE / name) for name in TESTS)],
        env={**os.environ, "SLIMTRACK_TEST_WITHOUT_FAULTS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stdout
    assert f"{len(TESTS)} failed" in done.stdout, done.stdout
    for what in TESTS.values():
        assert what in done.stdout
