"""Every crash point, with one and with two instances: killed there, nothing is lost or doubled."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pika
import psycopg
import pytest
from psycopg import sql
from system import System, copies

from slimtrack.faults import POINTS
from slimtrack.sql.migrate import packaged

ORDERS = 30
#: Which process passes a point; the others are passed by commands and tested below.
PASSED_BY = {
    "place": "api",
    "publisher": "publisher",
    "reconciler": "publisher",
    "drain": "publisher",
    "fan_out": "publisher",
    "actor": "worker",
    "retry": "worker",
}
BY_COMMAND = {"migration.before_commit"}
#: Only stages with work pass them: test_carrier.py.
WITH_WORK = {"work.before_call", "work.after_call", "work.after_undo"}
#: Only the command passes them: integration/test_pruning.py.
PRUNING = {"prune.after_file", "prune.half_deleted", "prune.before_drop"}
#: What processes pass that run all the time.
OWN = set(POINTS) - BY_COMMAND - WITH_WORK - PRUNING


@pytest.fixture
def system(environment: dict[str, str], tmp_path: Path) -> Iterator[System]:
    # Small sets, so that a claim makes several messages.
    settings = {"SLIMTRACK_SET_SIZE": "5", "SLIMTRACK_EVENTS": "on"}
    with System({**environment, **settings}, tmp_path) as running:
        yield running


def prepare(point: str, system: System) -> None:
    """Bring about what makes the processes pass the point."""
    with system.connect() as connection:
        if point in {"retry.before_rearm", "retry.after_rearm"}:
            fail_a_few_times(connection)
        if point == "reconciler.after_rearm":
            # As a broker leaves it that has lost everything.
            lost = connection.execute(
                "UPDATE outbox SET published_at = now(), publications = 1 WHERE stage <> 'events'"
            )
            assert lost.rowcount == ORDERS
        if point.startswith("drain."):
            put_aside(system.environment)
        if point == "retry.after_count":
            # What was published before is counted before it runs.
            connection.execute("UPDATE outbox SET publications = 1")


def fail_a_few_times(connection: psycopg.Connection) -> None:
    """Let the work of one order fail, long enough for it to be found alone and tried again.

    A sequence counts on when a transaction is rolled back.
    """
    connection.execute(
        "CREATE SEQUENCE failures;"
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('failures') <= 6 THEN RAISE EXCEPTION 'not yet'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER fail BEFORE UPDATE ON orders FOR EACH ROW"
        " WHEN (NEW.status = 'processing' AND NEW.reference = 'before-0')"
        " EXECUTE FUNCTION fail()"
    )


def put_aside(environment: Mapping[str, str]) -> None:
    """Put a message that nobody can read, and one whose rows are done, where rejected ones go."""
    done = {"actor_name": "nobody", "args": [[2**40]], "kwargs": {}, "options": {}}
    known = {"queue_name": "orders.processing", "message_id": "m", "message_timestamp": 0}
    with pika.BlockingConnection(pika.URLParameters(environment["AMQP_URL"])) as broker:
        channel = broker.channel()
        channel.queue_declare("orders.processing.XQ", durable=True)
        for body in (b"\xff", json.dumps({**done, **known}).encode()):
            channel.basic_publish("", "orders.processing.XQ", body)


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("point", sorted(OWN))
def test_a_process_killed_at_a_crash_point_loses_and_doubles_nothing(
    system: System, point: str, instances: int
) -> None:
    passed_by = PASSED_BY[point.partition(".")[0]]
    armed = {"SLIMTRACK_FAULT": f"{point}:kill"}
    if passed_by == "api":
        system.start(system.api(**armed, SLIMTRACK_API_WORKERS=str(instances)))
    else:
        system.start(system.api(SLIMTRACK_API_WORKERS="1"))
    system.place("before", count=ORDERS)
    prepare(point, system)
    for service in (system.publisher, system.worker):
        if service.__name__ == passed_by:
            system.start(*copies(service(**armed), instances))
        else:
            system.start(service())
    system.place("after", count=5)
    system.wait_until(lambda: point in system.fired(), what=f"{point} is passed")
    findings = system.settle()

    print(findings)  # noqa: T201 - shown where the test fails
    assert findings.is_clean, findings
    assert findings.accepted == findings.delivered == ORDERS + 5
    if passed_by != "api":  # gunicorn replaces its workers itself
        system.wait_until(lambda: sum(system.restarts().values()) == 1, what="one was restarted")
    if point.startswith("drain."):
        assert system.count("dead_letters WHERE body IS NOT NULL") == 1


@pytest.fixture
def empty_database(servers: Mapping[str, str]) -> Iterator[str]:
    name = sql.Identifier("test_migrate_crash")
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield servers["DATABASE_URL"].rpartition("/")[0] + "/test_migrate_crash"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.mark.parametrize("instances", [1, 2])
def test_a_migration_killed_before_its_commit_is_applied_by_the_next_process(
    environment: dict[str, str], empty_database: str, tmp_path: Path, instances: int
) -> None:
    own = {
        **environment,
        "DATABASE_URL": empty_database,
        "SLIMTRACK_FAULT": "migration.before_commit:kill",
        "SLIMTRACK_FAULT_DIR": str(tmp_path),
    }

    def migrate() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "slimtrack", "migrate"], env=own)

    codes = [process.wait(timeout=60) for process in [migrate() for _ in range(instances)]]
    codes.append(migrate().wait(timeout=60))

    assert sorted(codes) == [-9, *[0] * instances]
    assert [each.name for each in tmp_path.iterdir()] == ["migration.before_commit"]
    with psycopg.connect(empty_database) as connection:
        assert connection.execute(
            "SELECT version FROM schema_migrations ORDER BY version"
        ).fetchall() == [(each.version,) for each in packaged()]


def test_every_registered_point_is_tested_here() -> None:
    assert {point.partition(".")[0] for point in OWN} == set(PASSED_BY)
