"""Who owns what the migrations make, on servers that allow more or less."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from slimtrack.sql.migrate import Migration, migrate, packaged
from slimtrack.stack import postgresql
from slimtrack.stack.directory import StateDirectory, free_ports
from slimtrack.stack.provision import POSTGRESQL, provide
from slimtrack.stack.supervisor import Supervisor

OWNER = "slimtrack_owner"
MORE = Migration(
    name="9999_more.sql",
    text="CREATE TABLE more (id integer GENERATED ALWAYS AS IDENTITY);"
    "ALTER TABLE orders ADD COLUMN more text",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The superuser's URL of a PostgreSQL of this module's own: roles belong to a whole server."""
    with tempfile.TemporaryDirectory(prefix="slimtrack-owner-") as folder:
        Path(folder).chmod(0o755)
        program = provide([POSTGRESQL], environment={}, report=print)[POSTGRESQL]
        state = StateDirectory.create(Path(folder) / "state")
        service, url = postgresql.prepare(state, program, port=free_ports(1)[0])
        supervisor = Supervisor(on_line=lambda *_: None)
        try:
            supervisor.start([service])
            yield url
        finally:
            supervisor.stop()


@pytest.fixture
def superuser(cluster: str) -> Iterator[psycopg.Connection]:
    """The superuser of a server with an empty database, and none of our roles."""
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
        yield connection
        connection.execute("DROP DATABASE shop WITH (FORCE)")
        made = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^(slimtrack_|shop$)'"
        ).fetchall()
        for (name,) in made:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def url_of(role: str, cluster: str) -> str:
    return f"postgresql://{role}:secret@{cluster.rpartition('@')[2].rpartition('/')[0]}/shop"


def make_owner_of_the_database(superuser: psycopg.Connection, *, options: str = "") -> None:
    superuser.execute(f"CREATE ROLE shop LOGIN PASSWORD 'secret' {options}")
    superuser.execute("ALTER DATABASE shop OWNER TO shop")


def owners(url: str) -> set[str]:
    """Who owns the tables, indexes and sequences of a database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace"
        ).fetchall()
    return {name for (name,) in rows}


def limits(logs: Sequence[Mapping[str, object]]) -> list[object]:
    return [each["reason"] for each in logs if each["event"] == "migration.limited"]


def test_what_a_superuser_migrates_belongs_to_the_owner_now_and_later(
    cluster: str, superuser: psycopg.Connection
) -> None:
    url = cluster.rpartition("/")[0] + "/shop"
    with capture_logs() as logs:
        migrate(url)
        migrate(url, [*packaged(), MORE])

    assert limits(logs) == []
    assert owners(url) == {OWNER}
    assert (
        superuser.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls, rolreplication"
            " FROM pg_roles WHERE rolname = %s",
            (OWNER,),
        ).fetchone()
        == (False,) * 6
    )


def test_the_owner_applies_later_migrations_itself(
    cluster: str, superuser: psycopg.Connection
) -> None:
    migrate(cluster.rpartition("/")[0] + "/shop")
    superuser.execute("ALTER ROLE slimtrack_owner LOGIN PASSWORD 'secret'")
    url = url_of(OWNER, cluster)

    assert migrate(url, [*packaged(), MORE]) == [MORE.name]
    assert owners(url) == {OWNER}


def test_an_older_database_is_handed_over(cluster: str, superuser: psycopg.Connection) -> None:
    url = cluster.rpartition("/")[0] + "/shop"
    migrate(url, packaged()[:5])
    assert owners(url) == {superuser.info.user}
    migrate(url)
    assert owners(url) == {OWNER}


def test_a_database_owner_who_may_make_roles_hands_over_and_goes_on(
    cluster: str, superuser: psycopg.Connection
) -> None:
    make_owner_of_the_database(superuser, options="CREATEROLE")
    url = url_of("shop", cluster)
    with capture_logs() as logs:
        migrate(url)
        assert migrate(url, [*packaged(), MORE]) == [MORE.name]

    assert limits(logs) == []
    assert owners(url) == {OWNER}
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO tenants (name) VALUES ('as a member of the owner')")


def test_a_database_owner_who_may_make_no_roles_is_told_and_keeps_all(
    cluster: str, superuser: psycopg.Connection
) -> None:
    make_owner_of_the_database(superuser)
    url = url_of("shop", cluster)
    with capture_logs() as logs:
        migrate(url)
        assert migrate(url, [*packaged(), MORE]) == [MORE.name]

    rights, tables = limits(logs)
    assert "no roles with the least rights" in str(rights)
    assert str(tables).startswith("The tables stay with shop: permission denied to create role")
    assert all(
        each["log_level"] == "warning" for each in logs if each["event"] == "migration.limited"
    )
    assert owners(url) == {"shop"}
    assert migrate(url, [*packaged(), MORE]) == []


def test_roles_that_an_administrator_has_made_get_their_rights(
    cluster: str, superuser: psycopg.Connection
) -> None:
    make_owner_of_the_database(superuser)
    for name in ("api", "publisher", "worker", "readonly", "owner"):
        superuser.execute(f"CREATE ROLE slimtrack_{name} LOGIN PASSWORD 'secret'")
    superuser.execute("GRANT slimtrack_owner TO shop")
    url = url_of("shop", cluster)

    migrate(url)

    assert owners(url) == {OWNER}
    for name in ("api", "publisher", "worker", "readonly", "owner"):
        assert migrate(url_of(f"slimtrack_{name}", cluster)) == []


def test_another_databases_owner_role_is_not_taken(
    cluster: str, superuser: psycopg.Connection
) -> None:
    make_owner_of_the_database(superuser)
    superuser.execute("CREATE ROLE slimtrack_owner")
    url = url_of("shop", cluster)
    with capture_logs() as logs:
        migrate(url)

    assert str(limits(logs)[-1]).startswith("The tables stay with shop: ")
    assert owners(url) == {"shop"}
