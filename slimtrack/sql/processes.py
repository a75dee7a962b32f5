"""The statements on the processes that there are; they never commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import args_row

from slimtrack.sql import statements
from slimtrack.sql.connection import Connection


class Process(NamedTuple):
    """A process, as it was when it was seen last."""

    id: UUID
    kind: str
    host: str
    pid: int
    #: That a worker takes from.
    queues: list[str]
    version: str
    memory_bytes: int | None
    started_at: datetime
    seen_at: datetime
    #: Seconds since then.
    silent: float


def _query(name: str) -> str:
    return statements.load("processes.sql")[name]


def note_process(
    connection: Connection,
    process_id: UUID,
    *,
    kind: str,
    host: str,
    pid: int,
    queues: Sequence[str],
    version: str,
    memory_bytes: int | None,
    age: float,
) -> None:
    """Note that a process lives, which was started ``age`` seconds ago."""
    connection.execute(
        _query("note_process"),
        {
            "id": process_id,
            "kind": kind,
            "host": host,
            "pid": pid,
            "queues": list(queues),
            "version": version,
            "memory_bytes": memory_bytes,
            "age": age,
        },
    )


def forget_process(connection: Connection, process_id: UUID) -> None:
    """Forget a process that ends as it should."""
    connection.execute(_query("forget_process"), {"id": process_id})


def list_processes(connection: Connection) -> list[Process]:
    """Return every process that is known of, alive or not."""
    with connection.cursor(row_factory=args_row(Process)) as cursor:
        return cursor.execute(_query("list_processes")).fetchall()


def prune_processes(connection: Connection, *, silence: float) -> int:
    """Forget processes that have been silent for so many seconds; return how many."""
    return connection.execute(_query("prune_processes"), {"silence": silence}).rowcount
