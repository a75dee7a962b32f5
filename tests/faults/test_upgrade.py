"""A new version comes in beside the last one under load, and the last one comes back."""

import subprocess
import sys
import tarfile
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from auditor import audit
from ledger import Ledger, Load
from observing import wait_until
from psycopg import sql

from slimtrack.settings import Settings
from slimtrack.sql.migrate import packaged
from slimtrack.stack.directory import free_ports
from slimtrack.stack.processes import worker_environment
from slimtrack.stack.service import Service
from slimtrack.stack.supervisor import Supervisor

#: The release that is in use before the next one: its commit. Moved when a version is released.
LAST = "1ee4ce5e75debb0f47c7630c1003778a5a6eb5fe"
#: What each of its processes says, so that nobody takes another one for it.
MARK = "this is the last version"
PROCESSES = ("publisher", "worker", "api")
ROOT = Path(__file__).parents[2]
#: Orders that a load places in a second.
RATE = 60
#: Seconds that a migration may hold up a request: longer than a statement takes, far below the
#: 2 s after which a request is refused.
HELD_UP = 1.5


class Version:
    """One version of SlimTrack: its code, its processes, and the user that all of them are."""

    def __init__(
        self, name: str, code: Path, environment: Mapping[str, str], ledger: Ledger
    ) -> None:
        bind = f"127.0.0.1:{free_ports(1)[0]}"
        self.name, self.url = name, f"http://{bind}"
        self.lines: list[str] = []
        self._ledger = ledger
        self._code = code
        server = environment["DATABASE_URL"].rpartition("@")[2]
        self._environment = {
            **environment,
            **worker_environment(Settings.from_environment(environment)),
            "DATABASE_URL": f"postgresql://upgrade_{name}:secret@{server}",
            "SLIMTRACK_API_BIND": bind,
            "SLIMTRACK_LOG_LEVEL": "debug",
        }
        self._supervisor = Supervisor(on_line=self._on_line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.kill()
        self._supervisor.stop()

    def _on_line(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")

    def _command(self, *arguments: str) -> tuple[str, ...]:
        # Python, gunicorn and Dramatiq all look for the code in the working directory first.
        return ("/usr/bin/env", "-C", str(self._code), sys.executable, "-m", *arguments)

    def run(self, *arguments: str) -> str:
        """Run a command of this version to its end."""
        command = self._command(*arguments)
        return subprocess.check_output(command, env=self._environment, text=True, timeout=60)

    def start(self) -> None:
        def is_up() -> bool:
            try:
                with urllib.request.urlopen(f"{self.url}/health/live", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        self._supervisor = Supervisor(on_line=self._on_line)
        self._supervisor.start(
            [
                Service(
                    name=name,
                    command=self._command("slimtrack", name),
                    ready=is_up if name == "api" else None,
                    env=self._environment,
                )
                for name in PROCESSES
            ]
        )

    def stop(self) -> None:
        """Ask every process to end, which has run since it was started and ends in time."""
        self._supervisor.poll()
        assert not any(each.restarts for each in self._supervisor.states), self.lines[-20:]
        assert all(each.pid for each in self._supervisor.states), self.lines[-20:]
        self._supervisor.stop()
        assert not any("does not stop; killed" in line for line in self.lines)
        marked = {line.partition(":")[0] for line in self.lines if line.endswith(MARK)}
        assert marked == (set(PROCESSES) if self._code != ROOT else set())

    def published(self) -> int:
        return sum("outbox.published" in line for line in self.lines)

    def load(self, name: str) -> Load:
        return Load(self.url, self._ledger, name=name, count=100_000, rate=RATE)


@pytest.fixture(scope="module")
def last_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as the last version has it."""
    folder = tmp_path_factory.mktemp("last")
    git = ("git", "-C", ROOT)
    found = subprocess.run([*git, "cat-file", "-e", f"{LAST}^{{commit}}"], check=False)
    if found.returncode:
        asked = subprocess.run(
            [*git, "rev-parse", "--is-shallow-repository"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.stdout.strip() != "false", f"The whole history is here, without {LAST}."
        pytest.skip(f"No history, or not back to {LAST}, is here; git fetch --unshallow brings it.")
    archive = subprocess.run([*git, "archive", LAST, "slimtrack"], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    with (folder / "slimtrack/__init__.py").open("a") as module:
        module.write(f"print({MARK!r}, flush=True)\n")
    return folder


@pytest.fixture
def database(servers: Mapping[str, str]) -> Iterator[str]:
    """An empty database, and a user for each version, so that rows can tell who wrote them."""
    users = [sql.Identifier(f"upgrade_{name}") for name in ("last", "next")]
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE upgrade")
        for user in users:
            make = sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD 'secret'")
            connection.execute(make.format(user))
        yield servers["DATABASE_URL"].rpartition("/")[0] + "/upgrade"
        connection.execute("DROP DATABASE upgrade WITH (FORCE)")
        for user in users:
            connection.execute(sql.SQL("DROP ROLE {}").format(user))


@contextmanager
def placing(*loads: Load) -> Iterator[None]:
    """Place orders; at the end every request has had its answer, each the first time."""
    for load in loads:
        load.__enter__()
    try:
        yield
        for load in loads:
            load.stop()
        wait_until(lambda: all(load.is_done for load in loads))
    finally:
        for load in loads:
            load.__exit__()
    for load in loads:
        assert load.placed
        assert load.repeated == 0, "a request was refused, or had no answer"


def writers(connection: psycopg.Connection[Any], since: Any) -> Counter[tuple[str, bool]]:
    """Who has placed orders since then (False), and who has moved some (True)."""
    rows = connection.execute(
        "SELECT written_by, sequence > 1, count(*) FROM order_events WHERE recorded_at > %s"
        " GROUP BY 1, 2",
        [since],
    ).fetchall()
    return Counter({(who.removeprefix("upgrade_"), moved): count for who, moved, count in rows})


def now(connection: psycopg.Connection[Any]) -> Any:
    [(time,)] = connection.execute("SELECT now()").fetchall()
    return time


def test_old_and_new_code_work_side_by_side_during_a_migration_and_back(
    environment: dict[str, str], database: str, last_code: Path, tmp_path: Path
) -> None:
    environment = {**environment, "DATABASE_URL": database}
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with (
        Version("last", last_code, environment, ledger) as last,
        Version("next", ROOT, environment, ledger) as next_,
        psycopg.connect(database, autocommit=True) as look,
    ):
        last.run("slimtrack", "migrate")
        new = [each.name for each in packaged()][len(known(look)) :]
        assert new, "the last version has every migration: there is nothing to see"
        look.execute("ALTER TABLE order_events ADD COLUMN written_by text DEFAULT current_user")
        last.start()
        from_last = last.load("last")
        with placing(from_last):
            begun = now(look)
            wait_until(lambda: writers(look, begun)["last", True] > 50)
            assert not [name for name in new if name in known(look)]

            from_last.slowest = 0.0
            said = next_.run("slimtrack", "migrate")
            migrated, held_up = now(look), from_last.slowest
            assert said.splitlines() == [f"Applied {name}." for name in new]
            assert held_up < HELD_UP
            before = last.published()
            next_.start()
            from_next = next_.load("next")
            with placing(from_next):
                every = {(who, moved) for who in ("last", "next") for moved in (False, True)}
                wait_until(lambda: writers(look, migrated).keys() == every)
                wait_until(lambda: last.published() > before and next_.published())
        with placing(next_.load("alone")):
            last.stop()
            after = now(look)
            wait_until(lambda: writers(look, after)["next", True] > 50)
        assert all(who == "next" for who, _ in writers(look, after))

        # The way back: the last version again, on the new schema.
        last.start()
        back = last.load("back")
        with placing(back):
            next_.stop()
            after = now(look)
            wait_until(lambda: writers(look, after)["last", True] > 50)
        wait_until(lambda: look.execute("SELECT count(*) FROM outbox").fetchone() == (0,))
        assert known(look) == {each.version for each in packaged()}
        last.stop()

        next_.run("slimtrack", "audit")  # ends with an error where it finds something
        findings = audit(look, ledger.lines())
        print(findings)  # noqa: T201 - shown where the test fails, and by -s
        print(f"{len(new)} migrations held up a request for {held_up:.3f} s")  # noqa: T201 - as above
        assert findings.is_clean, findings
        assert findings.accepted == findings.delivered > 0


def known(connection: psycopg.Connection[Any]) -> set[str]:
    return {v for (v,) in connection.execute("SELECT version FROM schema_migrations").fetchall()}
