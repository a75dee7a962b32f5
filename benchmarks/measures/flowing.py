"""Whole orders: from a filled outbox to the last delivery."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final

import pika

from benchmarks.figures import FaultError, Figures, Group, Row, Scale, fixed
from benchmarks.peers.measure import PEERS
from benchmarks.peers.measure import measure as measure_peer
from benchmarks.peers.work import PeerError
from benchmarks.system import Database, Processes, System, wait_for
from slimtrack.broker.topology import EVENT_EXCHANGE
from slimtrack.domain.order import JOURNEY, NewOrder, Order, new_order_ids
from slimtrack.routing import Schedule
from slimtrack.sql.pool import open_pool
from slimtrack.sql.wakeup import WakeUp
from slimtrack.use_cases.tracking import Tracking

_BATCH: Final = 1_000
#: Orders that are surely placed in a second, while everything else waits.
_PLACED: Final = 15_000
#: Seconds between the last order that is placed and the moment when all are due.
_QUIET: Final = 2.0
_EVENTS: Final = 1 + len(JOURNEY)
_SUBSCRIBER: Final = "bench.subscriber"
#: Seconds until a queue has counted what it was sent.
_COUNTED: Final = 30.0


def whole_orders(system: System, scale: Scale) -> Figures:
    """Take orders through all stages, without delays, in sets of 100."""
    return _whole(system, orders=scale.orders, name="whole orders")


def whole_orders_one_row_per_message(system: System, scale: Scale) -> Figures:
    """Take orders through all stages, each row in a message of its own."""
    return _whole(
        system,
        orders=scale.orders // 10,
        name="whole orders, one row per message",
        SLIMTRACK_SET_SIZE="1",
    )


def whole_orders_with_events(system: System, scale: Scale) -> Figures:
    """The same with every event on the exchange, where a stream keeps them all."""
    arguments = {"x-queue-type": "stream"}
    return _with_events(system, scale, arguments, name="whole orders with events")


def whole_orders_with_events_in_a_classic_queue(system: System, scale: Scale) -> Figures:
    """The same where a durable classic queue keeps them all, which nobody reads."""
    return _with_events(system, scale, {}, name="whole orders with events in a classic queue")


def _with_events(
    system: System, scale: Scale, arguments: Mapping[str, str], *, name: str
) -> Figures:
    url = pika.URLParameters(system.environment["AMQP_URL"])
    with pika.BlockingConnection(url) as broker:
        channel = broker.channel()
        channel.exchange_declare(EVENT_EXCHANGE, "topic", durable=True)
        channel.queue_declare(_SUBSCRIBER, durable=True, arguments=arguments)
        channel.queue_bind(_SUBSCRIBER, EVENT_EXCHANGE, "#")
    try:
        figures = _whole(system, orders=scale.orders, name=name, SLIMTRACK_EVENTS="on")
        _wait_for_arrival(url, scale.orders * _EVENTS)
    finally:
        with pika.BlockingConnection(url) as broker:
            broker.channel().queue_delete(_SUBSCRIBER)
    return figures


def _wait_for_arrival(url: pika.URLParameters, events: int) -> None:
    """Wait until the queue says that it holds them all; a stream counts some seconds late.

    Raises:
        FaultError: it does not.
    """
    deadline = time.monotonic() + _COUNTED
    arrived = 0
    while arrived < events:
        if time.monotonic() > deadline:
            raise FaultError(f"Of {events} events {arrived} arrived.")
        time.sleep(0.2)
        with pika.BlockingConnection(url) as broker:
            declared = broker.channel().queue_declare(_SUBSCRIBER, passive=True)
            arrived = declared.method.message_count


def small_backlog(system: System, scale: Scale) -> Figures:
    """Take as many orders through as all other measures do."""
    return _whole(system, orders=scale.orders, name="small backlog")


def large_backlog(system: System, scale: Scale) -> Figures:
    """Take so many orders through that their rows fill many pages."""
    return _whole(system, orders=scale.backlog, name="large backlog")


def _whole(system: System, *, orders: int, name: str, **settings: str) -> Figures:
    with (
        system.processes(SLIMTRACK_STAGE_DELAYS="0", **settings) as processes,
        system.connect() as database,
    ):
        fill(processes, orders=orders)
        cpu, servers = processes.cpu(), system.server_cpu()
        seconds = drain(database)
        spent = {each: now - servers[each] for each, now in system.server_cpu().items()}
        spent["python"] = processes.cpu() - cpu
        check(database)
    return {name: orders / seconds} | {
        f"{name}, µs of {each}": 1e6 * cost / orders for each, cost in spent.items()
    }


def fill(
    processes: Processes, *, orders: int, prepare: Callable[[], object] = lambda: None
) -> None:
    """Place orders whose first rows become due at one moment, prepare them, and wait for it.

    Every process runs already, and nothing is left of the placing.

    Raises:
        FaultError: the moment came before all were placed.
    """
    moment = time.monotonic() + _QUIET + orders / _PLACED
    place(processes, orders=orders, delay=lambda: moment - time.monotonic())
    prepare()
    if time.monotonic() > moment:
        raise FaultError("The first rows were due before the outbox was filled.")
    wait_for(moment - time.monotonic())


def place(processes: Processes, *, orders: int, delay: Callable[[], float]) -> None:
    """Place orders whose first rows are due after a delay."""
    settings = processes.settings
    with (
        open_pool(
            settings.database_url, application_name="bench", size=1, options={}, timeout=5
        ) as pool,
        closing(WakeUp(settings.database_url)) as wake_up,
    ):
        for start in range(0, orders, _BATCH):
            tracking = Tracking(
                pool,
                wake_up=wake_up.send,
                schedule=Schedule({**settings.stage_delays, JOURNEY[0]: delay()}),
                fan_out=settings.events,
            )
            ids = new_order_ids(min(_BATCH, orders - start))
            placed = tracking.place_many(
                [NewOrder(id=each, description="A parcel") for each in ids]
            )
            if not all(isinstance(each, Order) for each in placed):
                raise FaultError("An order was not placed.")


def drain(database: Database, *, above: int = 0) -> float:
    """Wait until no outbox row above this id is left; return the seconds that it took."""
    started = time.perf_counter()
    while (oldest := find_oldest(database, above=above)) is not None:
        above = oldest
        time.sleep(0.05)
    return time.perf_counter() - started


def find_oldest(database: Database, *, above: int) -> int | None:
    """Return the id of the oldest outbox row that waits or is on its way, None if there is none.

    Ids only grow: whoever asks again from the last answer on does not walk past rows that are
    done, which no vacuum has taken away yet. That would cost more than what is measured.
    """
    row = database.execute("SELECT min(id) FROM outbox WHERE id >= %s", [above]).fetchone()
    return row[0] if row else None


def last_row(database: Database) -> int:
    """Return the id of the youngest outbox row; there is one for each stage of each order."""
    row = database.execute("SELECT last_value FROM outbox_id_seq").fetchone()
    return int(row[0]) if row else 0


def check(database: Database) -> None:
    """Look whether all simulated orders were delivered, each with all its events.

    Raises:
        FaultError: some were not.
    """
    wrong = database.execute(
        "SELECT count(*) FROM (SELECT FROM orders LEFT JOIN order_events ON order_id = id"
        " WHERE flow = 'simulated' GROUP BY id HAVING count(*) <> %(n)s OR min(sequence) <> 1"
        " OR max(sequence) <> %(n)s OR orders.status <> 'delivered') AS faulty",
        {"n": _EVENTS},
    ).fetchone()
    if wrong != (0,):
        raise FaultError(f"{wrong} orders were not delivered with {_EVENTS} events.")


def _peer(name: str) -> Callable[[System, Scale], Figures]:
    """Measure a peer, with as many orders as it needs some seconds for."""

    def measured(system: System, scale: Scale) -> Figures:
        try:
            rate = measure_peer(
                PEERS[name],
                database_url=system.environment["DATABASE_URL"],
                amqp_url=system.environment["AMQP_URL"],
                orders=scale.orders // 10,
            )
        except PeerError as error:
            raise FaultError(f"{name}: {error}") from error
        return {name: rate}

    measured.__name__ = name
    return measured


def to_best_peer(figures: Figures) -> Figures:
    """Compare with the best peer that makes a message for each order and stage."""
    best = max(figures["Celery"], figures["Dramatiq"])
    return {"whole orders, to the best peer": figures["whole orders"] / best}


def backlogs(figures: Figures) -> Figures:
    """Compare the rates of the two backlogs."""
    return {"large backlog, to a small one": figures["large backlog"] / figures["small backlog"]}


WHOLE: Final = Group(
    name="orders",
    what="Whole orders",
    measures=(
        whole_orders,
        whole_orders_with_events,
        whole_orders_with_events_in_a_classic_queue,
        whole_orders_one_row_per_message,
        *map(_peer, PEERS),
    ),
    together=to_best_peer,
    rows=(
        Row(
            metric="whole orders, four stages, no delay",
            figure="whole orders",
            unit="/s",
            floor=fixed(7_000),
            target=fixed(10_000),
        ),
        Row(
            metric="the same, to the best peer with one message per order",
            figure="whole orders, to the best peer",
            unit="times",
            floor=fixed(15),
            target=fixed(15),
        ),
        Row(
            metric="whole orders with every event on the exchange",
            figure="whole orders with events",
            unit="/s",
            floor=fixed(3_000),
            target=fixed(5_000),
        ),
    ),
)

BACKLOG: Final = Group(
    name="backlog",
    what="A backlog of 200,000 rows",
    measures=(small_backlog, large_backlog),
    together=backlogs,
    rows=(
        Row(
            metric="backlog of 200,000 rows, to the rate of a small one",
            figure="large backlog, to a small one",
            unit="times",
            floor=fixed(0.8),
            target=fixed(0.9),
        ),
    ),
)
