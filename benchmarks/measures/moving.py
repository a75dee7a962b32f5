"""Transitions: one stage of many orders, in sets by the workers, one by one by pgbench."""

import time
from typing import Final

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, median, share
from benchmarks.measures.flowing import place
from benchmarks.pgbench import run_pgbench, script_of
from benchmarks.publishing import open_publisher, publish
from benchmarks.system import Database, System
from slimtrack.broker.messages import SetMessage
from slimtrack.domain.event import MESSAGES
from slimtrack.domain.order import Status
from slimtrack.routing import BY_STAGE
from slimtrack.sql import statements
from slimtrack.sql.pool import OUTBOX_PLANS

_ROUTE: Final = BY_STAGE[Status.PROCESSING]
_CLIENTS: Final = 8
_SET: Final = 100


def one_transition_a_statement(system: System, scale: Scale) -> Figures:
    """B6: the statement of a stage with a set of one row, over 8 connections, by pgbench."""
    each = scale.orders // _CLIENTS
    with system.api() as api, system.connect() as database:
        place(api, orders=scale.orders, delay=lambda: 0.0)
        [first] = database.execute("SELECT min(id) FROM outbox").fetchone() or [0]
        statement = script_of(
            statements.load("orders.sql")["advance_orders"],
            {
                "ids": "ARRAY[:row]",
                "stage": f"'{Status.PROCESSING}'",
                "to_status": f"'{Status.PROCESSING}'",
                "from_statuses": f"ARRAY['{Status.RECEIVED}']",
                "message": f"'{MESSAGES[Status.PROCESSING]}'",
                "attempted": "ARRAY['out_for_delivery', 'delivered', 'delivery_failed']",
                "next_stage": f"'{Status.IN_TRANSIT}'",
                "next_delay": "0",
                "fan_out": "false",
                "with_tests": "false",
            },
        )
        rate = run_pgbench(
            system,
            f"\\set row :first + :client_id * {each} + :done\n\\set done :done + 1\n{statement}",
            clients=_CLIENTS,
            until=f"-t {each}",
            variables={"first": first, "done": 0},
            options=OUTBOX_PLANS,
        )
        _check(database, each * _CLIENTS)
    return {"B6 one transition a statement/s": rate}


def transitions_in_sets(system: System, scale: Scale) -> Figures:
    """The same by real workers, two processes, from messages of 100 rows each."""
    with system.workers(SLIMTRACK_WORKER_PROCESSES="2", SLIMTRACK_STAGE_DELAYS="0") as workers:
        place(workers, orders=2 * scale.orders, delay=lambda: 0.0)
        with (
            system.connect() as database,
            open_publisher(workers.settings.amqp_url, queue_name=_ROUTE.queue_name) as publisher,
        ):
            rows = [row[0] for row in database.execute("SELECT id FROM outbox ORDER BY id")]
            messages = [
                SetMessage(
                    queue_name=_ROUTE.queue_name,
                    actor_name=_ROUTE.actor_name,
                    row_ids=rows[start : start + _SET],
                )
                for start in range(0, len(rows), _SET)
            ]
            began = time.perf_counter()
            publish(publisher, messages)
            left = "SELECT id FROM outbox WHERE stage = %s LIMIT 1"
            while database.execute(left, [Status.PROCESSING]).fetchone():
                time.sleep(0.01)
            seconds = time.perf_counter() - began
            _check(database, len(rows))
    return {"transitions in sets/s": len(rows) / seconds}


def _check(database: Database, orders: int) -> None:
    row = database.execute(
        "SELECT count(*) FROM orders WHERE status = %s", [Status.PROCESSING]
    ).fetchone()
    if row != (orders,):
        raise FaultError(f"{orders} orders should have moved; these did: {row}.")


_ALONE: Final = median("B6 one transition a statement/s")

GROUP: Final = Group(
    name="transitions",
    what="Transitions",
    measures=(one_transition_a_statement, transitions_in_sets),
    rows=(
        Row(
            metric="transitions, in sets",
            figure="transitions in sets/s",
            unit="/s",
            limit=_ALONE,
            floor=share(1.2, _ALONE),
            target=share(2.0, _ALONE),
        ),
    ),
)
