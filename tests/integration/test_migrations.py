"""Migrations: once each, in order, whoever else does the same."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from slimtrack.sql.migrate import Migration, MigrationError, migrate, packaged


@pytest.fixture
def empty_url(servers: Mapping[str, str]) -> Iterator[str]:
    """A database without anything in it."""
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
        yield servers["DATABASE_URL"].rpartition("/")[0] + "/empty"
        connection.execute("DROP DATABASE empty WITH (FORCE)")


def test_many_at_once_apply_each_migration_once(empty_url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        applied = list(threads.map(lambda _: migrate(empty_url), range(8)))

    names = [migration.name for migration in packaged()]
    assert names
    assert sorted(applied, reverse=True) == [names, *[[]] * 7]
    with psycopg.connect(empty_url) as connection:
        rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
    assert rows == [(migration.version, migration.checksum) for migration in packaged()]


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(empty_url: str) -> None:
    migrate(empty_url, [Migration(name="0001_a.sql", text="CREATE TABLE a (id int)")])

    with pytest.raises(MigrationError, match=r"0001_a\.sql .* changed"):
        migrate(empty_url, [Migration(name="0001_a.sql", text="CREATE TABLE a (id bigint)")])


def test_a_migration_that_fails_leaves_nothing_and_is_applied_when_it_is_mended(
    empty_url: str,
) -> None:
    first = Migration(name="0001_a.sql", text="CREATE TABLE a (id int)")
    broken = Migration(name="0002_b.sql", text="CREATE TABLE b (id int); SELECT 1/0")

    with pytest.raises(MigrationError, match=r"0002_b\.sql failed: division by zero"):
        migrate(empty_url, [first, broken])
    mended = Migration(name="0002_b.sql", text="CREATE TABLE b (id int)")

    assert migrate(empty_url, [first, mended]) == ["0002_b.sql"]


def test_the_database_itself_refuses_what_no_order_may_be(
    database_url: str,
) -> None:
    order = "INSERT INTO orders (id, description, status, version, status_sequence) VALUES "
    refused = {
        "orders_status_check": order + "(gen_random_uuid(), 'x', 'on_its_way', 1, 1)",
        "orders_description_check": order + "(gen_random_uuid(), '', 'received', 1, 1)",
        "orders_status_sequence_check": order + "(gen_random_uuid(), 'x', 'received', 1, 2)",
        "order_events_sequence_check": "INSERT INTO order_events (order_id, sequence, status,"
        " message, idempotency_key) VALUES (gen_random_uuid(), 0, 'received', 'x', 'x')",
        "outbox_stage_check": "INSERT INTO outbox (stage, order_id, from_sequence)"
        " VALUES ('received', gen_random_uuid(), 1)",
        "outbox_from_sequence_check": "INSERT INTO outbox (stage, order_id, from_sequence)"
        " VALUES ('processing', gen_random_uuid(), 0)",
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        for constraint, statement in refused.items():
            with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
                connection.execute(statement)
