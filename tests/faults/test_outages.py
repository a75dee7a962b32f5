"""Servers that end, forget or refuse while orders are on their way; nobody helps."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from auditor import Findings
from private import Servers, private_servers
from system import System

#: Seconds within which the first order moves again once a server is back.
MOVES_AGAIN = 10.0


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    with private_servers() as servers:
        yield servers


@pytest.fixture
def system(own_servers: Servers, tmp_path: Path) -> Iterator[System]:
    with psycopg.connect(own_servers.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("TRUNCATE orders, order_events, outbox, dead_letters")
        connection.execute("DROP FUNCTION IF EXISTS fail CASCADE; DROP SEQUENCE IF EXISTS failures")
    with System(own_servers.environment, tmp_path) as running:
        yield running


def start(system: System, **settings: str) -> None:
    system.start(system.api(**settings))
    system.start(system.publisher(**settings), system.worker(**settings))


def delivered(system: System) -> int:
    return system.count("orders WHERE status = 'delivered'")


def check(findings: Findings, *, accepted: int) -> None:
    print(findings)  # noqa: T201 - shown where the test fails, and by -s
    assert findings.is_clean, findings
    assert findings.accepted == findings.delivered == accepted


def test_a_broker_that_forgets_everything_costs_seconds_and_no_order(
    own_servers: Servers, system: System
) -> None:
    orders = 4_000
    start(system)
    load = system.load("wiped", count=orders, rate=500)
    system.wait_until(lambda: delivered(system) > orders // 10, what="orders are delivered")
    in_flight = "outbox WHERE published_at IS NOT NULL"
    # So that many rows are in its queues, whatever the speed of the machine.
    system.kill_all_of("worker", signal.SIGSTOP)
    system.wait_until(lambda: system.count(in_flight) > 500, what="rows in flight")
    own_servers.rabbitmq.end(signal.SIGKILL)
    own_servers.rabbitmq.wipe()
    assert not load.is_done, "the fault came after the load"
    lost = system.count(in_flight)
    system.kill_all_of("worker", signal.SIGCONT)

    own_servers.rabbitmq.start()
    assert any("broker.disconnected" in line for line in system.lines), "the broker never went"
    before = system.count("order_events WHERE sequence > 1")
    seconds = system.wait_until(
        lambda: system.count("order_events WHERE sequence > 1") > before, what="orders move"
    )
    system.finish(load, timeout=120)
    findings = system.settle(timeout=150)

    print(f"{lost} rows in flight were lost; the first order moved after {seconds:.1f} s")  # noqa: T201
    check(findings, accepted=orders)
    assert seconds < MOVES_AGAIN


def test_a_database_that_crashes_every_few_seconds_loses_nothing(
    own_servers: Servers, system: System, pytestconfig: pytest.Config
) -> None:
    seconds, pause = pytestconfig.getoption("outage_seconds"), 10.0
    start(system)
    load = system.load("crashes", count=100_000, rate=50)
    crashes = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        system.look_after(pause)
        own_servers.postgresql.end(signal.SIGQUIT)  # immediate: as a crash, it has to recover
        own_servers.postgresql.start()
        crashes += 1
    load.stop()
    system.finish(load)
    findings = system.settle(timeout=120)

    print(f"{crashes} crashes, {load.placed} orders")  # noqa: T201
    assert crashes >= seconds // (2 * pause)
    assert findings.recovered, "no request was under way when the database crashed"
    check(findings, accepted=load.placed)


def fail_some(system: System) -> None:
    """Let the work fail fifty times; a sequence counts on when a transaction is rolled back."""
    with system.connect() as connection:
        connection.execute(
            "CREATE SEQUENCE failures;"
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF nextval('failures') <= 50 THEN RAISE EXCEPTION 'not yet'; END IF;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER fail BEFORE UPDATE ON orders FOR EACH ROW"
            " WHEN (NEW.reference LIKE '%7') EXECUTE FUNCTION fail()"
        )


@pytest.mark.parametrize("fault", ["a memory alarm", "no permission to write"])
def test_a_broker_that_takes_nothing_while_work_fails_loses_nothing(
    own_servers: Servers, system: System, fault: str
) -> None:
    rabbitmq = own_servers.rabbitmq
    refuse, allow, said = {
        "a memory alarm": (
            ("set_vm_memory_high_watermark", "0.00001"),
            ("set_vm_memory_high_watermark", "absolute", "512MB"),
            "broker.blocked",
        ),
        "no permission to write": (
            ("set_permissions", "slimtrack", "", "", ".*"),
            ("set_permissions", "slimtrack", ".*", ".*", ".*"),
            "broker.channel_closed",
        ),
    }[fault]
    orders = 300
    fail_some(system)
    start(system, SLIMTRACK_SET_SIZE="10", SLIMTRACK_MAX_RETRIES="100")
    load = system.load(fault.replace(" ", "-"), count=orders, rate=60)
    system.wait_until(lambda: delivered(system) > 20, what="orders are delivered")
    rabbitmq.rabbitmqctl(*refuse)
    if fault == "no permission to write":  # an open channel remembers what it was allowed
        rabbitmq.rabbitmqctl("close_all_connections", "test")
    try:
        system.wait_until(
            lambda: any(said in line for line in system.lines), what=f"the fault is felt: {said}"
        )
        system.wait_until(lambda: load.is_done, what="orders are accepted all the same")
        assert delivered(system) < orders
    finally:
        rabbitmq.rabbitmqctl(*allow)
    findings = system.settle(timeout=90)

    assert any("attempt.failed" in line for line in system.lines), "no work failed"
    check(findings, accepted=orders)
