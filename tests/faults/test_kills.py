"""Processes are killed in the middle of the work, and nobody helps."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from observing import wait_until

from slimtrack.domain.order import JOURNEY
from slimtrack.local.state import StackState, running_stack

ROWS = 5_000
REQUESTS = 300
VICTIMS = ("publisher", *(f"worker-{stage}" for stage in JOURNEY), "api")


def slimtrack(*arguments: str, directory: Path) -> subprocess.Popen[bytes]:
    own = {name: text for name, text in os.environ.items() if not name.endswith("_URL")}
    more = {"SLIMTRACK_STATE_DIR": str(directory), "SLIMTRACK_STAGE_DELAYS": "0"}
    return subprocess.Popen([sys.executable, "-m", "slimtrack", *arguments], env={**own, **more})


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slimtrack-kills-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        try:
            with slimtrack("up", "--detach", directory=state) as starting:
                assert starting.wait() == 0
            yield state
        finally:
            with slimtrack("down", directory=state):
                pass


def place_over_http(stack: StackState, outcomes: dict[str, int]) -> None:
    """Place orders until each has its answer; the key keeps a repeat from making two."""
    host = urlsplit(stack.api_url).netloc
    for number in range(REQUESTS):
        reference = f"HTTP-{number}"
        while reference not in outcomes:
            connection = http.client.HTTPConnection(host, timeout=5)
            try:
                connection.request(
                    "POST",
                    "/api/orders",
                    json.dumps({"description": "Over HTTP", "reference": reference}),
                    {
                        "Authorization": f"Bearer {stack.api_key}",
                        "Content-Type": "application/json",
                        "Idempotency-Key": reference,
                    },
                )
                status = connection.getresponse().status
                if status == 201:
                    outcomes[reference] = status
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
            finally:
                connection.close()
        time.sleep(0.02)


def test_publisher_workers_and_api_are_killed_in_the_middle_of_an_import(
    directory: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "orders.csv"
    rows.write_text(
        "reference,description\n" + "".join(f"PO-{n},Parcel {n}\n" for n in range(ROWS))
    )
    stack = running_stack(directory)
    assert stack
    outcomes: dict[str, int] = {}
    caller = threading.Thread(target=place_over_http, args=(stack, outcomes))
    caller.start()
    with (
        psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as database,
        slimtrack("import", str(rows), directory=directory) as importing,
    ):

        def count(condition: str) -> int:
            row = database.execute(f"SELECT count(*) FROM {condition}").fetchone()  # noqa: S608 - ours
            assert row
            return int(row[0])

        # In the middle: some orders are on their way, none of the kills finds an idle system.
        wait_until(lambda: count("order_events WHERE sequence > 1") > 0)
        for name in VICTIMS:
            state = running_stack(directory)
            assert state
            pid = next(each.pid for each in state.processes if each.name == name)
            assert pid
            os.kill(pid, signal.SIGKILL)
        assert count("outbox") > 0, "nothing was under way when the processes were killed"

        assert importing.wait(timeout=120) == 0
        caller.join(timeout=120)
        assert len(outcomes) == REQUESTS
        wait_until(lambda: count("orders WHERE status = 'delivered'") == ROWS + REQUESTS)

        assert count("orders") == ROWS + REQUESTS
        assert count("orders WHERE version <> 5") == 0
        assert count("order_events") == 5 * (ROWS + REQUESTS)
        assert count("order_events WHERE sequence NOT BETWEEN 1 AND 5") == 0
        assert count("outbox") == 0
        assert count("dead_letters") == 0
    state = running_stack(directory)
    assert state
    restarts = {each.name: each.restarts for each in state.processes}
    assert {name: restarts[name] for name in VICTIMS} == dict.fromkeys(VICTIMS, 1)
