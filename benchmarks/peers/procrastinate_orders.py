"""The stages of an order as jobs of Procrastinate, which are rows in PostgreSQL."""

import asyncio
import os
from typing import Any, Final

import psycopg
from procrastinate import App, PsycopgConnector, RetryStrategy
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers import work

CONCURRENCY: Final = 5


def make_pool(**arguments: Any) -> AsyncConnectionPool:
    """Make a pool that does not ask PostgreSQL about every connection before it lends it."""
    return AsyncConnectionPool(**{**arguments, "check": None})


async def set_autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    """Spare Procrastinate's own statements, one each, the round trips for a transaction."""
    await connection.set_autocommit(True)


#: A connection for each job at work, and two for the worker itself.
connector = PsycopgConnector(
    conninfo=os.environ["DATABASE_URL"],
    min_size=CONCURRENCY + 2,
    max_size=CONCURRENCY + 2,
    pool_factory=make_pool,
    configure=set_autocommit,
)
app = App(connector=connector)


@app.task(retry=RetryStrategy(linear_wait=2, retry_exceptions={psycopg.OperationalError}))
async def advance(order_id: str, sequence: int) -> None:
    """Bring an order to its next status and defer the job of the stage after it, or neither."""
    async with connector.pool.connection() as connection, connection.transaction():
        moved = await connection.execute(
            work.ADVANCE, work.parameters(order_id, sequence), prepare=True
        )
        if moved.rowcount and sequence < work.LAST:
            await advance.configure(connection=connection).defer_async(
                order_id=order_id, sequence=sequence + 1
            )


def send() -> None:
    """Make Procrastinate's tables, then defer the first job of every order."""
    asyncio.run(_send())


async def _send() -> None:
    jobs = [{"order_id": order_id, "sequence": work.FIRST} for order_id in work.order_ids()]
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await advance.batch_defer_async(*jobs)
