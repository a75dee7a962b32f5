"""The stages of an order as tasks of Celery on RabbitMQ."""

import os
from typing import Any, Final

import psycopg
from celery import Celery, signals
from kombu import Queue

from benchmarks.peers import work

QUEUE: Final = "peers.celery"
THREADS: Final = 16

app = Celery("orders", broker=os.environ["AMQP_URL"])
app.conf.update(
    # A message is acknowledged when its task has ended, and comes back when its process is killed.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    # Whoever sends waits until RabbitMQ has taken the message over.
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    # No thread waits for another's connection when it sends.
    broker_pool_limit=THREADS,
    # Durable, without an exchange of its own; messages are persistent unless told otherwise.
    task_queues=[Queue(QUEUE, durable=True)],
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_enable_remote_control=False,
)

#: A connection for every thread of a worker.
pool = work.closed_pool(size=THREADS)


@signals.worker_init.connect
def open_pool(**_: Any) -> None:
    """Open the pool of a worker, which forks no process."""
    pool.open()


@app.task(autoretry_for=(psycopg.OperationalError,), retry_backoff=True, max_retries=None)
def advance(order_id: str, sequence: int) -> None:
    """Bring an order to its next status, then send the task of the stage after it."""
    with pool.connection() as connection:
        work.advance(connection, order_id, sequence)
    # Also when the order had moved before: its process may have been killed just here.
    if sequence < work.LAST:
        advance.delay(order_id, sequence + 1)


def send() -> None:
    """Send the first task of every order."""
    for order_id in work.order_ids():
        advance.delay(order_id, work.FIRST)
