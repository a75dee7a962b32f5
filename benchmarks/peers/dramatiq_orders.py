"""The stages of an order as messages of plain Dramatiq on RabbitMQ, one for each stage."""

import os
from typing import Any, Final

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.peers import work

QUEUE: Final = "peers.dramatiq"
THREADS: Final = 24

#: A connection for every thread of a worker process.
pool = work.closed_pool(size=THREADS)


class PoolOpener(dramatiq.Middleware):
    """Opens the pool of a worker process."""

    def before_worker_boot(self, *_: Any) -> None:
        """Open the pool, after the fork."""
        pool.open()


broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=True)
broker.add_middleware(PoolOpener())
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def advance(order_id: str, sequence: int) -> None:
    """Bring an order to its next status, then send the message of the stage after it."""
    with pool.connection() as connection:
        work.advance(connection, order_id, sequence)
    # Also when the order had moved before: its process may have been killed just here.
    if sequence < work.LAST:
        advance.send(order_id, sequence + 1)


def send() -> None:
    """Send the first message of every order."""
    for order_id in work.order_ids():
        advance.send(order_id, work.FIRST)
