"""How the server carries out what is asked of it."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool


def explain(pool: ConnectionPool, ask: Callable[[], Any]) -> list[str]:
    """Return the plans of the statements that a question takes; the pool has one connection."""
    said: list[str] = []

    def listen(notice: psycopg.errors.Diagnostic) -> None:
        said.append(notice.message_primary or "")

    with pool.connection() as connection:
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET client_min_messages = log")
        connection.execute("SET auto_explain.log_analyze = on")
        connection.execute("SET auto_explain.log_buffers = on")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.add_notice_handler(listen)
    ask()
    with pool.connection() as connection:
        connection.remove_notice_handler(listen)
        connection.execute("RESET auto_explain.log_min_duration")
        connection.execute("RESET client_min_messages")
    return [each for each in said if "Query Text" in each]


def pages_of(plan: str) -> int:
    """Return how many pages a statement looked at, in the cache or not; none if only planned."""
    whole = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    return sum(int(pages or 0) for pages in whole.groups()) if whole else 0
