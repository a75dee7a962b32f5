"""Pruning: finished orders of long ago leave the database, and nothing else does."""

import json
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
import zstandard
from clients import Caller
from command import run_slimtrack
from observing import wait_until
from psycopg_pool import ConnectionPool

from slimtrack.archive import ArchiveError
from slimtrack.domain.errors import OrderNotFoundError
from slimtrack.domain.order import (
    JOURNEY,
    NewOrder,
    Order,
    Status,
    first_id_of,
    new_order_id,
)
from slimtrack.domain.retry import Failure, RetryPolicy
from slimtrack.faults import POINTS
from slimtrack.outbox.partitions import Partitions
from slimtrack.sql import audit, partitions
from slimtrack.sql import pruning as sql_pruning
from slimtrack.sql.roles import Role, allow_login
from slimtrack.use_cases import pruning
from slimtrack.use_cases.auditing import Auditing
from slimtrack.use_cases.pruning import OrderPruning, Pruned, PruningError
from slimtrack.use_cases.retrying import Retrying
from slimtrack.use_cases.tracking import Tracking

Connection = psycopg.Connection[Any]

AGE = timedelta(days=90).total_seconds()
JANUARY = datetime(2024, 1, 10, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def months(connection: Connection) -> None:
    """Partitions of two months of long ago, as if they had been made then."""
    [first, *_] = partitions.list_partitions(connection)
    connection.execute(f"DROP TABLE {first.name}")
    assert partitions.make_partitions(connection) == [first.name]
    for month in (1, 2):
        bounds = [first_id_of(datetime(2024, each, 1, tzinfo=UTC)) for each in (month, month + 1)]
        connection.execute(
            f"CREATE TABLE order_events_2024_0{month} PARTITION OF order_events"
            f" FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
        )


def names(connection: Connection) -> list[str]:
    return [each.name for each in partitions.list_partitions(connection)]


def place(tracking: Tracking, made: datetime, *, count: int, tenant_id: int = 1) -> list[UUID]:
    """Place orders as if it was then; some hold what is hard to write down."""
    first = first_id_of(made).int
    orders = [
        NewOrder(
            id=UUID(int=first + (n << 80) + (new_order_id().int & (1 << 80) - 1)),
            tenant_id=tenant_id,
            description="Zażółć\n„gęślą” \u2028 jaźń 🚚",
            reference=f"{made:%Y-%m-%d}-{n}",
            metadata={"n": n, "deep": {"er": [None, 1.5, "…"]}} if n % 3 else {},
            correlation_id=f"c-{n}" if n % 2 else None,
        )
        for n in range(count)
    ]
    assert all(isinstance(each, Order) for each in tracking.place_many(orders))
    return [each.id for each in orders]


def finish(tracking: Tracking, connection: Connection, ids: Sequence[UUID]) -> None:
    for stage in JOURNEY:
        rows = connection.execute(
            "SELECT id FROM outbox WHERE stage = %s AND order_id = ANY(%s)", (stage, ids)
        ).fetchall()
        assert tracking.advance(stage, [row for (row,) in rows]).moved == len(ids)
    let_rest(connection, ids)


def let_rest(connection: Connection, ids: Sequence[UUID]) -> None:
    """Make orders ones that have not changed since they were made."""
    connection.execute("UPDATE orders SET updated_at = created_at WHERE id = ANY(%s)", [ids])
    connection.execute(
        "UPDATE order_statuses SET updated_at = orders.updated_at FROM orders"
        " WHERE id = order_id AND id = ANY(%s)",
        [ids],
    )


Prune = Callable[..., list[Pruned]]


@pytest.fixture
def prune(connection: Connection) -> Prune:
    def run(directory: Path | None = None) -> list[Pruned]:
        silent = lambda _line: None  # noqa: E731
        return list(OrderPruning(connection).prune(age=AGE, directory=directory, report=silent))

    return run


def read(directory: Path) -> list[dict[str, Any]]:
    """All orders in the archives of a directory, as anybody would read them."""
    found = []
    for path in sorted(directory.iterdir()):
        assert path.name.endswith(".jsonl.zst")
        with path.open("rb") as file:
            text = zstandard.ZstdDecompressor().stream_reader(file).read()
        found += [json.loads(line) for line in text.splitlines()]
    return found


def stored(connection: Connection, tracking: Tracking, ids: Sequence[UUID]) -> list[Any]:
    """Orders as an archive has to hold them, made of what the API shows and the tables say."""
    found = []
    for order_id in ids:
        rows = connection.execute(
            "SELECT idempotency_key, correlation_id, next_due_at FROM order_events"
            " WHERE order_id = %s ORDER BY sequence",
            [order_id],
        ).fetchall()
        tenant = connection.execute(
            "SELECT name FROM tenants JOIN orders ON tenant_id = tenants.id WHERE orders.id = %s",
            [order_id],
        ).fetchone()
        assert tenant
        events = [
            {
                **to_json(event),
                "idempotency_key": key,
                "correlation_id": correlation_id,
                "published_at": None,
                "next_due_at": next_due_at and to_json(next_due_at),
            }
            for event, (key, correlation_id, next_due_at) in zip(
                tracking.history(order_id), rows, strict=True
            )
        ]
        found.append(
            {
                **to_json(tracking.get(order_id)),
                "tenant": tenant[0],
                "events": events,
                "incidents": [],
            }
        )
    return found


def to_json(value: msgspec.Struct | datetime) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_an_archive_holds_all_that_was_there_and_the_tables_nothing_of_it(
    connection: Connection, tracking: Tracking, caller: Caller, prune: Prune, tmp_path: Path
) -> None:
    shop = caller.place()["id"]
    [(tenant_id,)] = connection.execute(
        "SELECT tenant_id FROM orders WHERE id = %s", [shop]
    ).fetchall()
    old = place(tracking, JANUARY, count=40) + place(
        tracking, FEBRUARY, count=600, tenant_id=tenant_id
    )
    finish(tracking, connection, old)
    code = tracking.get(old[-1]).tracking_code
    assert caller.simulate_get(f"/api/orders/{old[-1]}").status_code == 200
    expected = stored(connection, tracking, old)

    january, february = prune(tmp_path)

    assert (january.orders, january.events) == (40, 200)
    assert (february.orders, february.events) == (600, 3000)
    assert read(tmp_path) == expected
    assert [each.partition for each in (january, february) if each.dropped] == [
        "order_events_2024_01",
        "order_events_2024_02",
    ]
    assert not {"order_events_2024_01", "order_events_2024_02"} & set(names(connection))
    for known_as in (old[-1], code):
        assert caller.simulate_get(f"/api/orders/{known_as}").status_code == 404
    assert caller.simulate_get(f"/api/orders/{old[-1]}/events").status_code == 404
    listed = caller.simulate_get("/api/orders", params={"limit": 100}).json["orders"]
    assert [each["id"] for each in listed] == [shop]
    assert connection.execute("SELECT count(*) FROM order_events").fetchone() == (1,)
    assert prune(tmp_path) == []
    assert connection.execute(
        "SELECT partition, file, orders, events, finished_at >= begun_at FROM archives ORDER BY id"
    ).fetchall() == [
        (each.partition, each.file, each.orders, each.events, True) for each in (january, february)
    ]


def dead_letter(connection: Connection, order_id: UUID) -> None:
    connection.execute(
        "INSERT INTO dead_letters (outbox_id, stage, order_id, from_sequence, publications,"
        "  attempts, created_at, error_type, error, traceback)"
        " VALUES (1, 'delivered', %s, 4, 1, 5, now(), 'E', 'E', '')",
        [order_id],
    )


def test_what_happened_to_the_rows_of_an_order_is_kept_and_goes_with_it(
    connection: Connection, tracking: Tracking, pool: ConnectionPool, prune: Prune, tmp_path: Path
) -> None:
    failed, fine = place(tracking, JANUARY, count=2)
    [young] = place(tracking, datetime.now(UTC), count=1)
    rows = connection.execute(
        "UPDATE outbox SET published_at = now() WHERE order_id = ANY(%s) RETURNING id",
        [[failed, young]],
    ).fetchall()
    failure = Failure(ids=[row for (row,) in rows], error=ArithmeticError("no"))
    policy = RetryPolicy(max_retries=3, min_backoff=0, max_backoff=0)
    Retrying(pool, wake_up=lambda: None).settle(Status.PROCESSING, [failure], policy)
    finish(tracking, connection, [failed, fine])

    [january, _] = prune(tmp_path)

    assert january.orders == 2
    kept = {each["id"]: each["incidents"] for each in read(tmp_path)}
    [incident] = kept.pop(str(failed))
    assert (incident["kind"], incident["error"]) == ("failed", "ArithmeticError: no")
    assert kept == {str(fine): []}
    assert connection.execute("SELECT order_id FROM order_incidents").fetchall() == [(young,)]


def test_orders_that_are_not_over_stay_with_their_history(
    connection: Connection,
    tracking: Tracking,
    prune: Prune,
    pool: ConnectionPool,
    tmp_path: Path,
) -> None:
    old = place(tracking, JANUARY, count=20)
    unfinished, changed, unpublished, given_up, *over = old
    finish(tracking, connection, old[1:])
    let_rest(connection, old)
    connection.execute("UPDATE orders SET updated_at = now() WHERE id = %s", [changed])
    connection.execute(
        "UPDATE order_statuses SET updated_at = orders.updated_at FROM orders WHERE id = order_id"
    )
    connection.execute(
        "INSERT INTO outbox (stage, order_id, from_sequence) VALUES ('events', %s, 5)",
        [unpublished],
    )
    dead_letter(connection, given_up)
    before = {each: tracking.history(each) for each in old[:4]}

    [january, _] = prune(tmp_path)

    assert (january.orders, january.dropped) == (len(over), True)
    assert {each["id"] for each in read(tmp_path)} == set(map(str, over))
    assert {each: tracking.history(each) for each in before} == before
    assert connection.execute(
        "SELECT count(DISTINCT order_id) FROM order_events_default"
    ).fetchone() == (4,)
    assert Auditing(pool, deadlines={}).audit().is_clean

    # When they are over, they go as well.
    connection.execute("DELETE FROM outbox WHERE stage = 'events'")
    connection.execute("UPDATE dead_letters SET discarded_at = now(), discard_reason = 'x'")
    finish(tracking, connection, [unfinished])
    let_rest(connection, old)
    expected = read(tmp_path) + stored(connection, tracking, old[:4])

    [default] = prune(tmp_path)

    assert (default.partition, default.orders, default.dropped) == (
        "order_events_default",
        4,
        False,
    )
    assert sorted(read(tmp_path), key=lambda each: each["id"]) == sorted(
        expected, key=lambda each: each["id"]
    )
    assert connection.execute("SELECT count(*) FROM order_events").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM order_statuses").fetchone() == (0,)


def test_a_month_with_many_unfinished_orders_stays_without_the_others(
    connection: Connection,
    tracking: Tracking,
    prune: Prune,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "MOST_LEFT", 2)
    old = place(tracking, JANUARY, count=10)
    finish(tracking, connection, old[:7])

    [january, _] = prune()

    assert (january.file, january.orders, january.events, january.dropped) == (None, 7, 35, False)
    assert connection.execute(
        "SELECT array_agg(order_id ORDER BY order_id) FROM order_events_2024_01"
    ).fetchone() == (old[7:],)
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)


def test_what_changes_while_it_is_archived_stays_and_is_archived_again_later(
    connection: Connection, tracking: Tracking, caller: Caller, tmp_path: Path
) -> None:
    old = place(tracking, JANUARY, count=3)
    finish(tracking, connection, old)

    def correct(line: str) -> None:
        if line.endswith("3 orders archived"):
            tenants = "UPDATE orders SET tenant_id = (SELECT max(id) FROM tenants) WHERE id = %s"
            connection.execute(tenants, [old[1]])
            body = {"sequence": 5, "message": "It was the neighbour"}
            assert caller.command(old[1], "corrections", body).status_code == 200

    list(OrderPruning(connection).prune(age=AGE, directory=tmp_path, report=correct))

    assert [event.sequence for event in tracking.history(old[1])] == [1, 2, 3, 4, 5, 6]
    for gone in (old[0], old[2]):
        with pytest.raises(OrderNotFoundError):
            tracking.get(gone)


def test_the_api_goes_on_while_a_partition_is_dropped(
    connection: Connection,
    database_url: str,
    tracking: Tracking,
    caller: Caller,
    prune: Prune,
) -> None:
    finish(tracking, connection, place(tracking, JANUARY, count=600))
    stay = place(tracking, JANUARY + timedelta(days=1), count=10)
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid"
        " WHERE relname = 'order_events' AND NOT granted AND mode = %s"
    )
    placed: list[str] = []

    def use(look: psycopg.Connection[Any]) -> None:
        while "order_events_2024_01" in names(look):
            placed.append(caller.place()["id"])
            assert len(caller.events(placed[-1])) == 1
            assert len(tracking.history(stay[0])) == 1

    with (
        psycopg.connect(database_url) as reader,
        psycopg.connect(database_url, autocommit=True) as look,
        psycopg.connect(database_url, autocommit=True) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        reader.execute("SELECT FROM order_events LIMIT 1")
        used = threads.submit(use, other)
        pruned = threads.submit(prune)
        # The drop waits for the reader, and requests wait behind it, which is over soon.
        wait_until(lambda: look.execute(waiting, ["AccessExclusiveLock"]).fetchone() == (1,))
        wait_until(lambda: look.execute(waiting, ["RowExclusiveLock"]).fetchone() != (0,))
        count = len(placed)
        wait_until(lambda: len(placed) > count + 1)
        assert not pruned.done()
        reader.rollback()
        assert pruned.result()[0].dropped
        used.result()

    assert connection.execute(
        "SELECT count(*) FROM orders JOIN order_events ON order_id = id"
    ).fetchone() == (len(placed) + len(stay),)


def run(environment: dict[str, str], *arguments: str, **options: Any) -> tuple[int, str, str]:
    done = run_slimtrack(
        *("prune", "--older-than", "90d", *arguments),
        environment=environment,
        stdin=subprocess.DEVNULL,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def contents(connection: Connection) -> list[Any]:
    return [
        connection.execute(f"TABLE {table} ORDER BY 1, 2").fetchall()
        for table in ("orders", "order_statuses", "order_events", "archives")
    ] + [names(connection)]


def test_a_dry_run_says_what_there_is_and_changes_nothing(
    environment: dict[str, str], connection: Connection, tracking: Tracking, tmp_path: Path
) -> None:
    old = place(tracking, JANUARY, count=5)
    finish(tracking, connection, old[:3])
    before = contents(connection)

    code, printed, _ = run(environment, "--dry-run", "--archive", str(tmp_path))
    assert code == 0
    assert printed.startswith("order_events_2024_01: 3 orders to be pruned, 2 stay; ")
    code, printed, _ = run(environment, "--dry-run", "--json")
    assert [json.loads(line)["orders"] for line in printed.splitlines()] == [3, 0]
    code, _, said = run(environment, "--archive", str(tmp_path))
    assert (code, "--yes" in said) == (2, True)

    assert contents(connection) == before
    assert list(tmp_path.iterdir()) == []


def test_a_role_that_may_not_prune_is_told_so_and_changes_nothing(
    environment: dict[str, str], connection: Connection, tracking: Tracking
) -> None:
    finish(tracking, connection, place(tracking, JANUARY, count=3))
    before = contents(connection)
    allow_login(connection, Role.READONLY, password="secret")  # noqa: S106 - of this test's server
    server = environment["DATABASE_URL"].rpartition("@")[2]
    environment["DATABASE_URL"] = f"postgresql://{Role.READONLY}:secret@{server}"

    code, _, said = run(environment, "--yes")

    assert code == 1
    assert "Only the owner of the tables may prune" in said
    assert "Traceback" not in said
    assert contents(connection) == before


def test_nothing_is_deleted_when_the_archive_cannot_be_written(
    environment: dict[str, str], connection: Connection, tracking: Tracking, tmp_path: Path
) -> None:
    finish(tracking, connection, place(tracking, JANUARY, count=600))
    before = contents(connection)
    keep = ("--yes", "--archive", str(tmp_path))

    code, _, said = run(environment, "--yes", "--archive", str(tmp_path / "missing"))
    assert (code, "missing" in said) == (2, True)
    # As on a full disk: a file may have 4 KiB.
    small = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    code, _, said = run(environment, *keep, preexec_fn=small)
    assert code == 1
    assert "cannot be written: File too large" in said
    assert "Traceback" not in said
    assert contents(connection) == before
    assert list(tmp_path.iterdir()) == []

    code, printed, _ = run(environment, *keep, "--json")
    assert code == 0
    assert [json.loads(line)["orders"] for line in printed.splitlines()] == [600, 0]
    assert len(read(tmp_path)) == 600


@pytest.mark.parametrize("point", sorted(each for each in POINTS if each.startswith("prune.")))
def test_a_pruning_killed_at_a_crash_point_is_finished_by_the_next(
    environment: dict[str, str],
    tracking: Tracking,
    pool: ConnectionPool,
    point: str,
    tmp_path: Path,
) -> None:
    directory, fired = tmp_path / "archives", tmp_path / "fired"
    for each in (directory, fired):
        each.mkdir()
    with pool.connection() as connection:
        old = place(tracking, JANUARY, count=700)
        finish(tracking, connection, old[1:])
        kept = stored(connection, tracking, old[1:])
        stayed = stored(connection, tracking, old[:1])

        armed = {"SLIMTRACK_FAULT": f"{point}:kill", "SLIMTRACK_FAULT_DIR": str(fired)}
        keep = ("--yes", "--archive", str(directory))
        assert run(environment | armed, *keep)[0] == -signal.SIGKILL
        assert [each.name for each in fired.iterdir()] == [point]
        auditing = Auditing(pool, deadlines={})
        assert auditing.audit().is_clean
        assert run(environment, *keep)[0] == 0

        assert auditing.audit().is_clean
        assert read(directory) == kept
        assert stored(connection, tracking, old[:1]) == stayed
        assert [len(each) for each in contents(connection)[:3]] == [1, 1, 1]
        assert "order_events_2024_01" not in names(connection)


def test_an_archive_that_is_gone_before_all_of_it_is_deleted_is_missed(
    connection: Connection,
    tracking: Tracking,
    prune: Prune,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish(tracking, connection, place(tracking, JANUARY, count=3))
    with monkeypatch.context() as patch:
        patch.setattr(partitions, "drop_partition", fail)
        with pytest.raises(psycopg.errors.DataError):
            prune(tmp_path)
    [path] = tmp_path.iterdir()
    moved = path.rename(tmp_path / "moved")

    with pytest.raises(ArchiveError, match=f"{path} cannot be read"):
        prune(tmp_path)
    moved.rename(path)
    assert prune(tmp_path)[0].dropped


def test_what_was_begun_without_an_archive_is_kept_by_a_run_with_one(
    connection: Connection,
    tracking: Tracking,
    prune: Prune,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = place(tracking, JANUARY, count=3)
    finish(tracking, connection, old)
    with monkeypatch.context() as patch:
        patch.setattr(sql_pruning, "delete_orders", fail)
        with pytest.raises(psycopg.errors.DataError):
            prune()

    assert prune(tmp_path)[0].dropped
    assert [each["id"] for each in read(tmp_path)] == list(map(str, old))


def fail(*_: object, **__: object) -> None:
    raise psycopg.errors.DataError


def test_two_do_not_prune_at_once(database_url: str, prune: Prune) -> None:
    with psycopg.connect(database_url, autocommit=True) as other:
        list(OrderPruning(other).prune(age=AGE, directory=None, report=print))
        with pytest.raises(PruningError, match="Somebody else"):
            prune()


def test_an_audit_keeps_what_it_looks_at(database_url: str, connection: Connection) -> None:
    with psycopg.connect(database_url) as auditor:
        audit.keep_partitions(auditor)
        [january, *_] = partitions.list_partitions(connection)
        with pytest.raises(psycopg.errors.LockNotAvailable), connection.transaction():
            partitions.drop_partition(connection, january)


def test_a_month_that_nobody_made_in_time_is_in_the_default_partition(
    connection: Connection, tracking: Tracking, pool: ConnectionPool, database_url: str
) -> None:
    *_, this, second, third, default = names(connection)
    assert default == "order_events_default"
    connection.execute(f"DROP TABLE {this}, {second}, {third}")
    order = tracking.place(NewOrder(id=new_order_id(), description="A parcel"))
    later = Partitions(pool)

    with psycopg.connect(database_url) as reader:
        # It has to look whether the default partition has such events.
        reader.execute("SELECT FROM order_events_default")
        reader.execute("LOCK TABLE order_events IN SHARE UPDATE EXCLUSIVE MODE")
        later.make_ahead()
        assert third not in names(connection)
    later.make_ahead()

    assert names(connection)[2:] == [second, third, default]
    assert len(tracking.history(order.id)) == 1
    assert connection.execute("SELECT count(*) FROM order_events_default").fetchone() == (1,)
