"""Migrations: once each, in order, whoever else does the same."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from observing import wait_until
from structlog.testing import capture_logs

from slimtrack.domain.order import first_id_of, new_order_id
from slimtrack.sql import partitions
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


def test_a_migration_that_somebody_is_in_the_way_of_is_tried_again(empty_url: str) -> None:
    first = Migration(name="0001_a.sql", text="CREATE TABLE a (id int)")
    migrate(empty_url, [first])
    second = Migration(name="0002_b.sql", text="ALTER TABLE a ADD COLUMN b int")
    with (
        capture_logs() as logs,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(empty_url) as other,
    ):
        other.execute("SELECT FROM a")
        migrating = threads.submit(migrate, empty_url, [first, second])
        wait_until(lambda: any(each["event"] == "migration.postponed" for each in logs))
        other.rollback()
        assert migrating.result() == ["0002_b.sql"]


def test_orders_of_an_older_database_are_taken_over_while_workers_are_busy(empty_url: str) -> None:
    migrate(empty_url, packaged()[:3])
    with psycopg.connect(empty_url) as worker, psycopg.connect(empty_url, autocommit=True) as look:
        look.execute(
            "INSERT INTO orders (id, description, status, version, status_sequence)"
            " SELECT gen_random_uuid(), 'x', 'received', 1, 1 FROM generate_series(1, 1000)"
        )
        look.execute(
            "INSERT INTO order_events (order_id, sequence, status, message, idempotency_key)"
            " SELECT id, 1, 'received', 'x', id || ':0:received' FROM orders"
        )
        look.execute(
            "INSERT INTO outbox (stage, order_id, from_sequence)"
            " SELECT 'processing', id, 1 FROM orders"
        )
        # As a worker does: the outbox first, then, some time later, the order.
        worker.execute("DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox)")
        with ThreadPoolExecutor(1) as threads:
            migrating = threads.submit(migrate, empty_url)
            wait_until(
                lambda: look.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                ).fetchone()
            )
            worker.execute("UPDATE orders SET description = 'y'")
            worker.commit()
            assert migrating.result() == [each.name for each in packaged()[3:]]
        assert look.execute(
            "SELECT count(*), count(DISTINCT tracking_number), count(DISTINCT order_id) FROM orders"
            " JOIN order_statuses ON order_id = id AND order_statuses.status = orders.status"
        ).fetchone() == (1000, 1000, 1000)


def test_dead_letters_of_an_older_database_are_told_of(empty_url: str) -> None:
    migrate(empty_url, [each for each in packaged() if each.version < "0010"])
    order_id = new_order_id()
    with psycopg.connect(empty_url, autocommit=True) as look:
        look.execute(
            "INSERT INTO orders (id, description, status, version, status_sequence)"
            " VALUES (%s, 'x', 'received', 1, 1)",
            [order_id],
        )
        look.execute(
            "INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications,"
            "  attempts, created_at, error_type, error, traceback, died_at, discarded_at,"
            "  discard_reason)"
            " VALUES (1, 'processing', %s, 1, 1, 5, now(), 'E', repeat('e', 2000), '',"
            "  now() - interval '1 h', now(), 'old')",
            [order_id],
        )
        assert "0010_timeline.sql" in migrate(empty_url)
        assert look.execute(
            "SELECT number, kind, attempt, length(error), reason FROM order_incidents"
            " WHERE order_id = %s ORDER BY number",
            [order_id],
        ).fetchall() == [(1, "dead_letter", 5, 500, None), (2, "discarded", None, None, "old")]


def test_orders_move_while_dead_letters_of_an_older_database_are_taken_over(empty_url: str) -> None:
    migrate(empty_url, [each for each in packaged() if each.version < "0010"])
    with (
        psycopg.connect(empty_url) as holder,
        psycopg.connect(empty_url, autocommit=True) as look,
        ThreadPoolExecutor() as threads,
    ):
        holder.execute("LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
        migrating = threads.submit(migrate, empty_url)
        wait_until(
            lambda: look.execute(
                "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'dead_letters'::regclass"
            ).fetchone()
        )
        assert not migrating.done()
        look.execute("SET lock_timeout = '1s'")
        try:
            look.execute("DELETE FROM order_events")
        finally:
            holder.rollback()
        assert "0010_timeline.sql" in migrating.result()


def test_events_of_an_older_database_stay_where_they_are_and_are_found(empty_url: str) -> None:
    migrate(empty_url, packaged()[:6])
    now = datetime.now(UTC)
    fresh, old = new_order_id(), first_id_of(now - timedelta(days=400))
    ahead = first_id_of(now + timedelta(days=40))
    with psycopg.connect(empty_url, autocommit=True) as look:
        look.execute("CREATE ROLE reporter")
        look.execute("GRANT SELECT ON order_events TO reporter")
        for order_id in (old, fresh, ahead):
            look.execute(
                "INSERT INTO order_events (order_id, sequence, status, message, idempotency_key)"
                " SELECT %s, n, 'received', 'x', %s::text || n FROM generate_series(1, 2) AS n",
                (order_id, order_id),
            )
        before = look.execute("SELECT * FROM order_events ORDER BY order_id, sequence").fetchall()
        [(file,)] = look.execute("SELECT pg_relation_filepath('order_events')").fetchall()

        migrate(empty_url)

        after = look.execute("SELECT * FROM order_events ORDER BY order_id, sequence").fetchall()
        # Behind them are the columns that were added later.
        assert [row[: len(before[0])] for row in after] == before
        first, *others, default = partitions.list_partitions(look)
        assert first.name == f"order_events_{now:%Y_%m}"
        assert look.execute("SELECT pg_relation_filepath(%s)", [first.name]).fetchone() == (file,)
        assert look.execute(
            "SELECT count(*) FROM order_events WHERE tableoid = %s::regclass", [first.name]
        ).fetchone() == (4,)
        assert (len(others), default.name) == (1, "order_events_default")
        with look.transaction():
            look.execute("SET LOCAL ROLE reporter")
            assert look.execute("SELECT count(*) FROM order_events").fetchone() == (6,)
        look.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reporter; DROP ROLE reporter")


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
