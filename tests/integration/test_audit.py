"""The audit finds what is broken and only that; what is late is listed, what is stranded mended."""

import json
import time
from typing import Any
from uuid import UUID

import psycopg
import pytest
from command import run_slimtrack
from pika.adapters.blocking_connection import BlockingChannel
from prometheus_client import REGISTRY
from psycopg_pool import ConnectionPool

from slimtrack.bootstrap.tracking import deadlines
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import JOURNEY, STAGES, NewOrder, new_order_id
from slimtrack.domain.published import FAN_OUT
from slimtrack.settings import Settings
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.tracking import Tracking

#: What breaks each check for one order, in the words of SQL.
BREAKS = {
    "stranded_orders": "DELETE FROM outbox WHERE order_id = %(id)s",
    "gaps": "UPDATE order_events SET sequence = 3 WHERE order_id = %(id)s AND sequence = 2",
    "undeclared_moves": (
        "UPDATE order_events SET status = 'delivered' WHERE order_id = %(id)s AND sequence = 2"
    ),
    "contradictions": "UPDATE orders SET status = 'lost' WHERE id = %(id)s",
    "strays": "DELETE FROM orders WHERE id = %(id)s",
    "doubles": (
        "UPDATE outbox SET stage = 'processing', from_sequence = 1 WHERE order_id = %(id)s"
    ),
}


@pytest.fixture
def auditing(pool: ConnectionPool) -> Auditing:
    return Auditing(pool, deadlines={**dict.fromkeys(map(str, JOURNEY), 60.0), FAN_OUT: 20.0})


@pytest.fixture
def order(tracking: Tracking, connection: psycopg.Connection[Any]) -> UUID:
    """An order of two events, among others."""
    placed = [new_order_id() for _ in range(5)]
    tracking.place_many([NewOrder(id=each, description="A parcel") for each in placed])
    ids = [row[0] for row in connection.execute("SELECT id FROM outbox").fetchall()]
    tracking.advance(JOURNEY[0], ids)
    return placed[2]


def test_an_audit_of_a_sound_system_finds_nothing(auditing: Auditing, order: UUID) -> None:
    report = auditing.audit()

    assert order
    assert report.is_clean
    assert report.orders == {"processing": 5}
    assert {finding.name for finding in report.findings} == set(BREAKS)


@pytest.mark.parametrize("name", BREAKS)
def test_an_audit_finds_what_is_broken_and_names_the_order(
    auditing: Auditing, connection: psycopg.Connection[Any], order: UUID, name: str
) -> None:
    connection.execute(BREAKS[name], {"id": order})

    report = auditing.audit()

    broken = {finding.name: set(finding.broken) for finding in report.findings}
    assert broken[name] == {order}
    assert not report.is_clean


def test_a_dead_letter_accounts_for_its_order_also_when_it_is_discarded(
    auditing: Auditing, connection: psycopg.Connection[Any], order: UUID
) -> None:
    connection.execute(
        "WITH row AS (DELETE FROM outbox WHERE order_id = %s RETURNING *)"
        " INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications,"
        "  attempts, created_at, error_type, error, traceback, discarded_at, discard_reason)"
        " SELECT id, stage, order_id, from_sequence, 1, 5, now(), 'E', 'E', '', now(), 'why'"
        " FROM row",
        (order,),
    )

    assert auditing.audit().is_clean


def test_stranded_orders_are_found_and_repaired_once(
    auditing: Auditing, tracking: Tracking, connection: psycopg.Connection[Any], order: UUID
) -> None:
    connection.execute(BREAKS["stranded_orders"], {"id": order})
    action = OperatorAction(operator="tester", reason="restored from a backup")

    def shown() -> float | None:
        return REGISTRY.get_sample_value("slimtrack_stranded_orders", {"flow": "simulated"})

    assert auditing.find_stranded() == [order]
    # The alert on figures that are old needs to know when this one was looked at.
    looked = REGISTRY.get_sample_value(
        "slimtrack_refreshed_timestamp_seconds", {"source": "stranded"}
    )
    assert looked is not None
    assert looked > time.time() - 60
    assert shown() == 1
    assert auditing.repair([order], action=action) == 1
    assert auditing.repair([order], action=action) == 0
    assert auditing.find_stranded() == []
    assert shown() == 0

    row = connection.execute("SELECT id FROM outbox WHERE order_id = %s", (order,)).fetchone()
    assert row
    assert tracking.advance(JOURNEY[1], [row[0]]).moved == 1
    assert auditing.audit().is_clean


def test_an_order_past_its_deadline_is_stuck_and_no_other(
    auditing: Auditing, connection: psycopg.Connection[Any], order: UUID
) -> None:
    connection.execute(
        "UPDATE outbox SET created_at = now() - interval '61 s' WHERE order_id = %s", (order,)
    )

    [stuck] = auditing.stuck(limit=10)
    assert (stuck.id, stuck.status, stuck.stage) == (order, "processing", "in_transit")
    assert auditing.watch() == 1


def test_an_event_that_nobody_publishes_is_stuck_too(
    auditing: Auditing, connection: psycopg.Connection[Any], order: UUID
) -> None:
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence, created_at)"
        " SELECT 'events', %s, n, now() - n * interval '15 s' FROM generate_series(1, 2) AS n",
        (order,),
    )

    [stuck] = auditing.stuck(limit=10)
    assert (stuck.id, stuck.stage) == (order, "events")
    assert auditing.watch() == 1


def test_every_stage_and_every_event_has_a_deadline(settings: Settings) -> None:
    assert set(deadlines(settings)) == {*STAGES, FAN_OUT}


def test_the_commands_say_by_their_exit_code_what_they_found(
    environment: dict[str, str], connection: psycopg.Connection[Any], order: UUID
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = run_slimtrack(*arguments, environment=environment)
        return done.returncode, done.stdout

    code, printed = run("audit")
    assert code == 0
    assert printed.endswith(
        "ok           what RabbitMQ puts aside becomes a dead letter\n"
        "5 orders: 5 processing\n"
        "5 rows: 5 due\n"
    )
    assert run("stuck") == (0, "No order is stuck.\n")
    assert run("reconcile") == (0, "0 stranded, 0 repaired\n")

    connection.execute("UPDATE outbox SET created_at = now() - interval '1 h'")
    connection.execute(BREAKS["stranded_orders"], {"id": order})
    code, printed = run("audit", "--json")
    assert code == 1
    assert [each["broken"] for each in json.loads(printed)["findings"] if each["broken"]] == [
        [str(order)]
    ]
    assert run("stuck")[0] == 1
    assert run("reconcile") == (1, f"{order}\n1 stranded, 0 repaired\n")
    assert run("reconcile", "--apply") == (0, f"{order}\n1 stranded, 1 repaired\n")
    assert run("audit")[0] == 0


def test_an_audit_counts_what_the_broker_has_put_aside_and_nobody_drains(
    environment: dict[str, str], channel: BlockingChannel, order: UUID
) -> None:
    assert order

    def run(amqp_url: str) -> tuple[int, Any]:
        done = run_slimtrack("audit", "--json", environment={**environment, "AMQP_URL": amqp_url})
        return done.returncode, json.loads(done.stdout)["rejected"]

    channel.queue_declare("orders.delivered.XQ", durable=True)
    assert run(environment["AMQP_URL"]) == (0, 0)
    channel.basic_publish("", "orders.delivered.XQ", b"strange")
    assert run(environment["AMQP_URL"]) == (1, 1)
    assert run("amqp://nobody:nothing@127.0.0.1:1/") == (0, None)
