"""The outbox: rows claimed, published, confirmed and marked, and what limits that."""

import time
from typing import Final

import pika

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, in_turn, median, share
from benchmarks.measures.flowing import fill, place
from benchmarks.publishing import open_publisher, publish
from benchmarks.system import System
from slimtrack.broker.messages import SetMessage
from slimtrack.broker.topology import dead_letter_queue
from slimtrack.sql.outbox import claim_due_rows
from slimtrack.sql.pool import OUTBOX_PLANS, open_pool

_QUEUE: Final = "bench.outbox"
_SET: Final = 100
_BOUND: Final = 2_000
#: Messages of one raw publishing, and of one that waits for each confirm.
_MESSAGES: Final = 20_000
_FEW: Final = 2_000


def publishing_alone(system: System, scale: Scale) -> Figures:  # noqa: ARG001 - as many as it takes
    """B3 and B3s: a row a message, with pipelined confirms; each confirmed before the next."""
    amqp_url = system.environment["AMQP_URL"]
    singles, sets = ([_message(rows) for _ in range(_MESSAGES)] for rows in (1, _SET))
    with open_publisher(amqp_url, queue_name=_QUEUE) as publisher:
        pipelined = _MESSAGES / publish(publisher, singles)
        in_sets = _MESSAGES / publish(publisher, sets)
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        began = time.perf_counter()
        for _ in range(_FEW):
            message = _message(1)
            channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.encode(),
                pika.BasicProperties(delivery_mode=2, message_id=message.id),
                mandatory=True,
            )
        one_by_one = _FEW / (time.perf_counter() - began)
        for name in (_QUEUE, dead_letter_queue(_QUEUE)):
            channel.queue_delete(name)
    return {
        "B3 published, confirms pipelined/s": pipelined,
        "B3s published, confirmed one by one/s": one_by_one,
        "sets of 100 published, confirms pipelined/s": in_sets,
    }


def claiming_alone(system: System, scale: Scale) -> Figures:
    """B4: rows claimed and deleted in batches, by the same statement, nothing published."""
    with (
        system.api() as api,
        open_pool(
            api.settings.database_url,
            application_name="bench",
            size=1,
            options=OUTBOX_PLANS,
            timeout=5,
        ) as pool,
        pool.connection() as connection,
    ):
        place(api, orders=2 * scale.orders, delay=lambda: 0.0)
        claimed = 0
        floors = None
        began = time.perf_counter()
        while True:
            with connection.transaction():
                rows, floors = claim_due_rows(
                    connection, bound=_BOUND, set_size=_SET, floors=floors
                )
                ids = [row.id for row in rows]
                connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", [ids], prepare=True)
            if not rows:
                break
            claimed += len(rows)
        seconds = time.perf_counter() - began
    if claimed != 2 * scale.orders:
        raise FaultError(f"Of {2 * scale.orders} rows {claimed} were claimed.")
    return {"B4 claimed and deleted, rows/s": claimed / seconds}


def outbox_drained(system: System, scale: Scale) -> Figures:
    """A publisher with nobody at work on the queues.

    Published rows are taken away every 10 ms from outside, or their stage would soon be at its
    bound.
    """
    rows = 2 * scale.orders
    with system.publisher() as publisher, system.connect() as database:
        fill(publisher, orders=rows)
        taken = 0
        began = time.perf_counter()
        while taken < rows:
            taken += database.execute(
                "DELETE FROM outbox WHERE published_at IS NOT NULL", prepare=True
            ).rowcount
            time.sleep(0.01)
            if time.perf_counter() > began + 60:
                raise FaultError(f"Of {rows} rows {taken} were published in a minute.")
        seconds = time.perf_counter() - began
    return {"outbox drained, rows/s": rows / seconds}


def _message(rows: int) -> SetMessage:
    first = 1_000_000
    return SetMessage(
        queue_name=_QUEUE, actor_name="start_processing", row_ids=range(first, first + rows)
    )


#: Of an outbox that makes a message of each row; ours packs a hundred, so it may be beyond.
_LIMIT: Final = in_turn("B3 published, confirms pipelined/s", "B4 claimed and deleted, rows/s")
_NAIVE: Final = share(4, median("B3s published, confirmed one by one/s"))


GROUP: Final = Group(
    name="outbox",
    what="The outbox",
    measures=(publishing_alone, claiming_alone, outbox_drained),
    rows=(
        Row(
            metric="outbox drained",
            figure="outbox drained, rows/s",
            unit="/s",
            limit=_LIMIT,
            floor=lambda medians: max(0.60 * _LIMIT(medians), _NAIVE(medians)),
            target=lambda medians: max(0.80 * _LIMIT(medians), _NAIVE(medians)),
        ),
    ),
)
