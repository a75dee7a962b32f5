"""Alerts as Prometheus evaluates them, and the runbook followed to the letter."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from measured import System, running
from observing import wait_until
from prometheus_server import RULES, Prometheus, find_programs, prometheus_of

from slimtrack.stack.provision import POSTGRESQL, provide

RUNBOOK = Path(__file__).parents[2] / "docs/runbook.md"
DASHBOARD = RULES.parent / "grafana/dashboards/slimtrack.json"
OLDEST = "slimtrack_outbox_oldest_due_seconds"
SECTION = "SlimTrackRowsWait"


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool = find_programs() / "promtool"
    for arguments in (
        ("test", "rules", RULES / "rules.test.yml"),
        ("check", "config", RULES / "prometheus.yml"),
    ):
        tried = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert "SUCCESS" in tried.stdout + tried.stderr


def commands_of(section: str) -> list[str]:
    """The blocks of commands of a section of the runbook, in their order."""
    [text] = re.findall(
        rf"^## {section}\n(.*?)(?=^## )", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL
    )
    blocks: list[str] = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return blocks


@pytest.fixture
def shell(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of an operator, who has our command and psql."""
    postgresql = provide([POSTGRESQL], environment={}, report=print)[POSTGRESQL]
    assert postgresql.path.with_name("psql").exists()
    programs = f"{Path(sys.executable).parent}:{postgresql.path.parent}"
    environment = {**environment, **postgresql.env}
    return {**environment, "PATH": f"{programs}:{environment['PATH']}"}


def follow(commands: str, shell: Mapping[str, str]) -> tuple[int, str]:
    """Type commands as they stand; return the last exit code, and what is printed."""
    done = subprocess.run(
        ["/bin/sh", "-c", commands],
        env=shell,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_postgresql_understands_every_statement_of_the_runbook(shell: dict[str, str]) -> None:
    blocks = re.findall(r"(?ms)^```\n(.*?)^```$", RUNBOOK.read_text())
    statements = [each[each.index("psql") :] for each in blocks if "psql" in each]
    assert len(statements) == 4
    for statement in statements:
        assert follow(statement, shell)[0] == 0


def take_row(
    system: System,
    connection: psycopg.Connection[Any],
    forgotten: psycopg.Connection[Any],
) -> str:
    """Let a session take the row of an order before the publisher does; return the order's id.

    The order was placed 20 minutes ago: nobody wants to wait that long.
    """
    publisher = system.pid("publisher")
    os.kill(publisher, signal.SIGSTOP)
    try:
        system.place(reference="PO-1")
        connection.execute(
            "UPDATE outbox SET created_at = created_at - interval '20 min',"
            " available_at = available_at - interval '20 min'"
        )
        row = forgotten.execute("SELECT order_id FROM outbox FOR UPDATE").fetchone()
    finally:
        os.kill(publisher, signal.SIGCONT)
    assert row
    return str(row[0])


#: Those of what goes wrong: their series are made when they are needed, or after a while.
SILENT = {
    *("Stranded orders", "Stuck rows", "Requests that fail"),
    *("Retries, delays and dead letters a second", "Histories found in Redis"),
}


def silent_panels(prometheus: Prometheus) -> set[str]:
    """The panels of the dashboard that show nothing."""
    return {
        panel["title"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"][:1]
        if not prometheus.query(target["expr"].replace("$__rate_interval", "1m"))
    }


def test_a_row_that_a_forgotten_session_holds_is_reported_and_the_runbook_frees_it(
    environment: dict[str, str],
    database_url: str,
    connection: psycopg.Connection[Any],
    shell: dict[str, str],
    tmp_path: Path,
) -> None:
    find_them, find_who, end_them = commands_of(SECTION)
    with (
        running(environment, "publisher", "worker", "api") as system,
        prometheus_of(system.pages.values(), folder=tmp_path) as prometheus,
        psycopg.connect(database_url, application_name="a person") as forgotten,
    ):
        # Quiet, while all processes are there and the first order goes its way.
        system.place()
        wait_until(lambda: prometheus.has_evaluated() and not prometheus.names())
        wait_until(lambda: system.total("slimtrack_transitions_total", status="delivered") == 1)
        assert system.total(OLDEST) == 0
        wait_until(lambda: silent_panels(prometheus) <= SILENT)

        order = take_row(system, connection, forgotten)
        taken = time.monotonic()
        wait_until(lambda: system.total(OLDEST, stage="processing") > 1_000)
        wait_until(lambda: SECTION in prometheus.names())
        [alert] = [a for a in prometheus.alerts() if a["labels"]["alertname"] == SECTION]
        assert alert["labels"]["stage"] == "processing"
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{SECTION.lower()}"

        code, printed = follow(find_them, shell)
        assert code == 1
        assert "1 rows: 1 due\n" in printed
        assert f"{order}  received  waits for processing" in printed
        assert "0 publications" in printed

        code, printed = follow(find_who, shell)
        assert code == 0
        [line] = [each for each in printed.splitlines() if "a person" in each]
        assert "idle in transaction" in line

        time.sleep(max(0.0, taken + 10 - time.monotonic()))  # as the runbook says
        code, printed = follow(end_them, shell)
        assert code == 0
        assert re.search(r"a person +\| t\n", printed)
        assert "(1 row)" in printed

        wait_until(lambda: system.total("slimtrack_transitions_total", status="delivered") == 2)
        wait_until(lambda: system.total(OLDEST) == 0)
        wait_until(lambda: not prometheus.names(), timeout=90)
        assert follow("slimtrack stuck", shell) == (0, "No order is stuck.\n")
        with pytest.raises(psycopg.OperationalError):
            forgotten.execute("SELECT")
