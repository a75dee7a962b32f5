"""What each process may do in the database, and nothing more."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest
from clients import Callers
from observing import wait_until
from psycopg import sql
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import Scope
from slimtrack.domain.order import STAGES, NewOrder, new_order_id
from slimtrack.outbox.partitions import Partitions
from slimtrack.outbox.pruning import Pruning
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql import outbox, partitions
from slimtrack.sql.migrate import Migration, MigrationError, migrate, packaged
from slimtrack.sql.pool import OUTBOX_PLANS, open_pool
from slimtrack.sql.roles import Role, allow_login
from slimtrack.stack.directory import free_ports
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.tracking import Tracking

TABLES = (
    "schema_migrations",
    *("orders", "order_statuses", "order_events", "outbox", "dead_letters"),
    *("tenants", "api_keys", "idempotency_keys", "operator_actions", "archives", "processes"),
    *("order_incidents", "samples"),
)
#: S: read, I: insert, U: update, D: delete, X: empty, drop and alter; what is not named is refused.
ALL = "SIUDX"
RIGHTS = {
    "slimtrack_api": {
        "schema_migrations": "S",
        "orders": "SIU",
        "order_statuses": "SIU",
        "order_events": "SI",
        "outbox": "I",
        "order_incidents": "SIUD",
        "dead_letters": "SD",  # and to change what an operator may
        "operator_actions": "SI",
        "tenants": "S",
        "api_keys": "S",
        "idempotency_keys": "SIU",
        "processes": "SIUD",
        "samples": "S",
    },
    "slimtrack_publisher": {
        "schema_migrations": "S",
        "orders": "S",
        "order_statuses": "S",
        "order_events": "S",
        "outbox": "SUD",
        "dead_letters": "SI",
        "order_incidents": "SIUD",
        "idempotency_keys": "SD",
        "processes": "SIUD",
        "samples": "SID",
        "tenants": "S",
    },
    "slimtrack_worker": {
        "schema_migrations": "S",
        "orders": "SU",
        "order_statuses": "SU",
        "order_events": "SI",
        "outbox": "SIUD",
        "dead_letters": "SI",
        "processes": "SIUD",
        "order_incidents": "SIUD",
    },
    "slimtrack_readonly": dict.fromkeys(
        set(TABLES) - {"api_keys", "idempotency_keys"},
        "S",
    ),
    "slimtrack_owner": dict.fromkeys(TABLES, ALL),
}
STATEMENTS = {
    "S": "SELECT * FROM {table}",
    "I": "INSERT INTO {table} DEFAULT VALUES",
    "U": "UPDATE {table} SET created_at = now()",
    "D": "DELETE FROM {table}",
    "X": "TRUNCATE {table} CASCADE",
    "X (drop)": "DROP TABLE {table} CASCADE",
    "X (alter)": "ALTER TABLE {table} ADD COLUMN more text",
}
#: Not every table tells when its rows were made.
TIMES = {
    "order_events": "recorded_at",
    "operator_actions": "acted_at",
    "archives": "begun_at",
    "processes": "seen_at",
    "order_incidents": "happened_at",
    "samples": "taken_at",
    "order_statuses": "status",
    "schema_migrations": "checksum",
}


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
    expected = RIGHTS[role].get(table, "")
    assert allowed == {right for right in STATEMENTS if right[0] in expected}


def test_the_publisher_may_do_each_of_its_jobs(
    connection: psycopg.Connection, database_url: str, tracking: Tracking
) -> None:
    tracking.place(NewOrder(id=new_order_id(), description="x"))
    connection.execute(
        "INSERT INTO idempotency_keys VALUES (1, 'k', '', 201, '{}', '', '2026-01-01')"
    )
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence) SELECT 'events', id, 1 FROM orders"
    )
    *_, ahead, _default = partitions.list_partitions(connection)
    connection.execute(f"DROP TABLE {ahead.name}")
    session = {**OUTBOX_PLANS, "role": "slimtrack_publisher"}
    with open_pool(
        database_url, application_name="publisher", size=1, options=session, timeout=5
    ) as pool:
        assert Pruning(pool, answer_lifetime=60).prune() == 1
        Partitions(pool).make_ahead()
        assert partitions.list_partitions(connection)[-2].name == ahead.name
        auditing = Auditing(pool, deadlines=dict.fromkeys(STAGES, 60.0))
        assert auditing.watch() == 0
        assert auditing.find_stranded() == []
        with pool.connection() as publisher, publisher.transaction():
            [event] = outbox.claim_events(publisher, limit=10)
            [row] = outbox.claim_due_rows(publisher, bound=10, set_size=10).rows
            outbox.settle_events(publisher, confirmed=[event.row_id], refused=[])
            outbox.mark_published(publisher, [row.id])
            assert outbox.find_next_due_at(publisher) is None
        with pool.connection() as publisher:
            now = outbox.read_clock(publisher)
            rearmed = outbox.rearm_lost_rows(
                publisher, empty_stages=STAGES, counted_at=now, disrupted_at=now, limit=10
            )
            assert rearmed == 1


#: The owner may do the first of these, and nothing else outside its tables.
POWERS = (
    "CREATE TABLE more (id integer)",
    "CREATE ROLE more",
    "ALTER ROLE slimtrack_api SUPERUSER",
    "GRANT slimtrack_owner TO slimtrack_api",
    "COPY orders TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
)


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_makes_nothing_and_lets_nobody_in(connection: psycopg.Connection, role: str) -> None:
    for statement in POWERS if role != Role.OWNER else POWERS[1:]:
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


def test_the_api_sees_where_the_rows_of_an_order_are_and_not_what_they_hold(
    tracking: Tracking, database_url: str
) -> None:
    order = tracking.place(NewOrder(id=new_order_id(), description="x"))
    session = {"role": "slimtrack_api"}
    with open_pool(
        database_url, application_name="api", size=1, options=session, timeout=5
    ) as pool:
        api = Tracking(pool, wake_up=lambda: None, schedule=Schedule({}))
        assert api.timeline(order.id).entries[-1].stage == "processing"
        for column in ("payload", "last_error"):
            with (
                pool.connection() as reader,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                reader.execute(f"SELECT {column} FROM outbox")  # noqa: S608 - ours


def test_without_a_dashboard_the_api_works_with_fewer_rights(
    connection: psycopg.Connection, database_url: str, settings: Settings, pool: ConnectionPool
) -> None:
    token = Access(pool).create_key(tenant="default", name="test", scopes=list(Scope))
    document = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8")
    for statement in document.split("```sql\n")[1].split("```")[0].split(";"):
        if statement.strip():
            connection.execute(statement.encode())
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE slimtrack_api")
        for refused in (
            "SELECT secret FROM session_secrets",
            "DELETE FROM dead_letters",
            "UPDATE order_incidents SET repeats = 0",
            "UPDATE outbox SET published_at = NULL",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(refused)
    session = {"role": "slimtrack_api"}
    with open_pool(
        database_url, application_name="api", size=1, options=session, timeout=5
    ) as fewer:
        schedule = Schedule(settings.stage_delays)
        tracking = Tracking(fewer, wake_up=lambda: None, schedule=schedule)
        api = Callers(tracking, fewer, redis_url=settings.redis_url)
        caller = api.with_token(token)
        order = caller.place()
        for part in ("", "/events", "/timeline"):
            assert caller.simulate_get(f"/api/orders/{order['id']}{part}").status_code == 200
        assert caller.command(order["id"], "cancel").status_code == 200


@pytest.mark.parametrize("role", sorted(set(RIGHTS) - {Role.PUBLISHER, Role.OWNER}))
def test_nobody_but_the_publisher_makes_partitions(
    connection: psycopg.Connection, role: str
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        assert not partitions.may_make_partitions(connection)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            partitions.make_partitions(connection)


def url_of(role: str, database_url: str) -> str:
    """Let a role in, and say where it finds the database."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        allow_login(owner, Role(role), password="secret")  # noqa: S106 - of a server of this test's
    return f"postgresql://{role}:secret@{database_url.rpartition('@')[2]}"


def ask(url: str, body: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return json.load(answer)


def test_each_process_starts_and_works_with_the_rights_of_its_role(
    environment: dict[str, str], database_url: str
) -> None:
    bind = f"127.0.0.1:{free_ports(1)[0]}"
    migrated = subprocess.run(
        [sys.executable, "-m", "slimtrack", "migrate"], env=environment, check=False
    )
    assert migrated.returncode == 0

    def process(name: str) -> Service:
        return Service(
            name=name,
            command=(sys.executable, "-m", "slimtrack", name),
            ready=(lambda: answers(f"http://{bind}/health/ready")) if name == "api" else None,
            env={
                **environment,
                "DATABASE_URL": url_of(f"slimtrack_{name}", database_url),
                "SLIMTRACK_API_BIND": bind,
                "SLIMTRACK_API_WORKERS": "1",
            },
        )

    supervisor = Supervisor(on_line=lambda *_: None)
    try:
        supervisor.start([process(name) for name in ("api", "publisher", "worker")])
        order = ask(f"http://{bind}/api/orders", b'{"description": "A parcel"}')
        url = f"http://{bind}/api/orders/{order['id']}"
        wait_until(lambda: ask(url)["status"] == "delivered")
    finally:
        supervisor.stop()


def answers(url: str) -> bool:
    try:
        ask(url)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_sees_that_no_migration_is_missing(database_url: str, role: str) -> None:
    assert migrate(url_of(role, database_url)) == []


MORE = Migration(name="9999_more.sql", text="CREATE TABLE more (id integer)")


@pytest.mark.parametrize("role", sorted(set(RIGHTS) - {Role.OWNER}))
def test_a_role_is_told_what_to_do_where_a_migration_is_missing(
    database_url: str, role: str
) -> None:
    url = url_of(role, database_url)
    with pytest.raises(MigrationError, match=rf"9999_more\.sql .* {role} may not .*`slimtrack mig"):
        migrate(url, [*packaged(), MORE])
    assert migrate(database_url, [*packaged(), MORE]) == [MORE.name]
    assert migrate(url, [*packaged(), MORE]) == []


def test_a_role_is_told_what_to_do_where_it_cannot_see_the_migrations(
    connection: psycopg.Connection, environment: dict[str, str], database_url: str
) -> None:
    connection.execute("REVOKE ALL ON schema_migrations FROM slimtrack_api")
    started = subprocess.run(
        [sys.executable, "-m", "slimtrack", "api"],
        env={**environment, "DATABASE_URL": url_of("slimtrack_api", database_url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 1
    assert "slimtrack_api may not see" in started.stderr
    assert "Run `slimtrack migrate`" in started.stderr
    assert "Traceback" not in started.stderr


def test_a_role_is_told_what_to_do_where_nothing_is_migrated(
    connection: psycopg.Connection, database_url: str
) -> None:
    connection.execute("DROP TABLE schema_migrations")
    with pytest.raises(MigrationError, match=r"0001_.* slimtrack_worker may not apply it"):
        migrate(url_of("slimtrack_worker", database_url))
