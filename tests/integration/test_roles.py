"""What each process may do in the database, and nothing more."""

import psycopg
import pytest
from psycopg import sql

TABLES = (
    *("orders", "order_statuses", "order_events", "outbox", "dead_letters"),
    *("tenants", "api_keys", "idempotency_keys", "operator_actions"),
)
#: S: read, I: insert, U: update, D: delete; what is not named is refused.
RIGHTS = {
    "slimtrack_api": {
        "orders": "SIU",
        "order_statuses": "SIU",
        "order_events": "SI",
        "outbox": "I",
        "tenants": "S",
        "api_keys": "S",
        "idempotency_keys": "SIU",
    },
    "slimtrack_publisher": {
        "orders": "S",
        "order_statuses": "S",
        "order_events": "S",
        "outbox": "SUD",
        "dead_letters": "SI",
        "idempotency_keys": "SD",
    },
    "slimtrack_worker": {
        "orders": "SU",
        "order_statuses": "SU",
        "order_events": "SI",
        "outbox": "SIUD",
        "dead_letters": "SI",
    },
    "slimtrack_readonly": dict.fromkeys(
        set(TABLES) - {"api_keys", "idempotency_keys"},
        "S",
    ),
}
STATEMENTS = {
    "S": "SELECT * FROM {table}",
    "I": "INSERT INTO {table} DEFAULT VALUES",
    "U": "UPDATE {table} SET created_at = now()",
    "D": "DELETE FROM {table}",
    "truncate": "TRUNCATE {table}",
    "drop": "DROP TABLE {table}",
    "alter": "ALTER TABLE {table} ADD COLUMN more text",
}
#: Not every table tells when its rows were made.
TIMES = {"order_events": "recorded_at", "operator_actions": "acted_at", "order_statuses": "status"}


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("table", TABLES)
def test_a_role_may_do_what_its_statements_need_and_nothing_else(
    connection: psycopg.Connection, role: str, table: str
) -> None:
    allowed = set()
    for right, text in STATEMENTS.items():
        statement = text.replace("created_at = now()", f"{TIMES.get(table, 'created_at')} = NULL")
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                connection.execute(sql.SQL(statement).format(table=sql.Identifier(table)))
        except psycopg.errors.InsufficientPrivilege:
            continue
        except psycopg.errors.IntegrityError:  # it was allowed to, and wrong
            pass
        allowed.add(right)
    assert allowed == set(RIGHTS[role].get(table, ""))


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_makes_nothing_and_lets_nobody_in(connection: psycopg.Connection, role: str) -> None:
    for statement in (
        "CREATE TABLE more (id integer)",
        "CREATE ROLE more",
        "ALTER ROLE slimtrack_api SUPERUSER",
        "COPY orders TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
    ):
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_api_writes_down_that_a_key_was_used_and_no_more(
    connection: psycopg.Connection,
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE slimtrack_api")
        connection.execute("UPDATE api_keys SET last_used_at = now()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE api_keys SET revoked_at = NULL")
