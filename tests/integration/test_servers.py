"""Private servers, started and stopped the way `slimtrack up` does it, but without it."""

import ctypes
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pika
import psycopg
import pytest
import redis

from slimtrack.domain.errors import StackError
from slimtrack.process import die_with_parent
from slimtrack.stack.directory import StateDirectory, default_directory, free_ports
from slimtrack.stack.provision import Kind, provide
from slimtrack.stack.servers import Servers, prepare_servers
from slimtrack.stack.service import Service

ROOT = os.geteuid() == 0
DEFAULT_PORTS = {5432, 5672, 6379, 4369, 25672}


def prepare(directory: Path) -> Servers:
    return prepare_servers(directory, environment={}, report=lambda _: None)


def launch(service: Service, *, log: Path, death: signal.Signals) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            service.command,
            env=dict(service.env),
            user=service.user,
            group=pwd.getpwnam(service.user).pw_gid if service.user else None,
            extra_groups=[] if service.user else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, death),  # noqa: PLW1509 - no threads here
        )


def start(
    servers: Servers, directory: Path, *, death: signal.Signals = signal.SIGTERM
) -> list[tuple[Service, subprocess.Popen[bytes]]]:
    """Start all, or none: what had started is killed again when one does not get ready."""
    log = directory.with_suffix(".log")
    running = [(each, launch(each, log=log, death=death)) for each in servers.services]
    deadline = time.monotonic() + 90
    for service, process in running:
        assert service.ready
        while not service.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                for _, other in running:
                    other.kill()
                    other.wait()
                pytest.fail(f"{service.name} did not get ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
    return running


@contextmanager
def run(*directories: Path) -> Iterator[list[Mapping[str, str]]]:
    """Start the servers of each directory, all at once; at the end every one stops by itself."""
    prepared = [prepare(directory) for directory in directories]
    together = Servers(
        services=tuple(service for servers in prepared for service in servers.services),
        environment={},
    )
    running = start(together, directories[0])
    try:
        yield [servers.environment for servers in prepared]
        for service, process in running:
            process.send_signal(service.stop_signal)
        for service, process in running:
            assert process.wait(service.stop_timeout) == 0, service.name
    finally:
        for _, process in running:
            process.kill()
            process.wait()


def descendants() -> set[int]:
    """Every living process below this one, which also adopts those whose parent has ended."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def left_since(before: set[int]) -> set[int]:
    """Return what was started since and does not end; helpers end a moment after their server."""
    # This file is a program as well, which finds no module of the tests: no wait_until.
    deadline = time.monotonic() + 5
    while (left := descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    adopt_orphans = partial(ctypes.CDLL(None).prctl, 36)  # PR_SET_CHILD_SUBREAPER
    adopt_orphans(1, 0, 0, 0)
    before = descendants()
    yield
    left = left_since(before)
    adopt_orphans(0, 0, 0, 0)
    assert not left, [command_line(pid) for pid in left]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: that one is closed to the users that servers run as under root.
    path = Path(tempfile.mkdtemp(prefix="slimtrack-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def amqp(environment: Mapping[str, str]) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(environment["AMQP_URL"]))


def fill(environment: Mapping[str, str]) -> None:
    with amqp(environment) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        channel.basic_publish("", "kept", b"message", pika.BasicProperties(delivery_mode=2))
    with psycopg.connect(environment["DATABASE_URL"]) as database:
        database.execute("CREATE TABLE kept AS SELECT 'row' AS what")
    with redis.Redis.from_url(environment["REDIS_URL"]) as cache:
        assert cache.ping()


def check_filled(environment: Mapping[str, str]) -> None:
    with psycopg.connect(environment["DATABASE_URL"]) as database:
        assert database.execute("SELECT what FROM kept").fetchall() == [("row",)]
    with amqp(environment) as connection:
        assert connection.channel().basic_get("kept", auto_ack=True)[2] == b"message"


def test_two_sets_run_side_by_side_and_each_finds_its_data_again(folder: Path) -> None:
    one, other = folder / "one", folder / "other"
    with run(one, other) as (first, second):
        ports = {urlsplit(url).port for each in (first, second) for url in each.values()}
        assert len(ports) == 6
        assert not ports & DEFAULT_PORTS
        assert not set(first.values()) & set(second.values())
        fill(first)
        with amqp(second) as connection, pytest.raises(pika.exceptions.ChannelClosedByBroker):
            connection.channel().queue_declare("kept", passive=True)
        with psycopg.connect(second["DATABASE_URL"]) as database:
            assert database.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(first["DATABASE_URL"].replace("slimtrack:", "slimtrack:not"))
        commands = " ".join(map(command_line, descendants()))
        assert "postgresql.conf" in commands
        for url in (*first.values(), *second.values()):
            assert (urlsplit(url).password or "?") not in commands
    with run(one) as (again,):
        check_filled(again)
        with psycopg.connect(again["DATABASE_URL"]) as database:
            for name, value in {
                "fsync": "on",
                "data_checksums": "on",
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "",
                "password_encryption": "scram-sha-256",
            }.items():
                assert database.execute(f"SHOW {name}").fetchone() == (value,), name


def test_servers_die_with_their_parent_and_start_again_on_what_that_left(folder: Path) -> None:
    before = descendants()
    directory = folder / "state"
    parent = subprocess.Popen(
        [sys.executable, __file__, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout
        fill(json.loads(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.communicate()
    assert not left_since(before)

    # By now the process number in PostgreSQL's lock file may be another's of the same user.
    user = "postgres" if ROOT else None
    with subprocess.Popen(["/bin/sleep", "60"], user=user, cwd="/") as stranger:
        lock = directory / "postgresql/data/postmaster.pid"
        _, *rest = lock.read_text().splitlines()
        lock.write_text("\n".join([str(stranger.pid), *rest, ""]))
        try:
            with run(directory) as (environment,):
                check_filled(environment)
        finally:
            stranger.kill()


def test_given_urls_are_taken_as_they_are_and_nothing_is_made(folder: Path) -> None:
    given = {
        "DATABASE_URL": "postgresql://a:b@db.example/c",
        "AMQP_URL": "amqp://a:b@mq.example/",
        "REDIS_URL": "redis://:b@cache.example/0",
    }
    servers = prepare_servers(folder / "state", environment=given, report=lambda _: None)
    assert servers == Servers(services=(), environment=given)
    assert not (folder / "state").exists()


def test_given_files_are_taken_as_they_are_and_nothing_is_made(folder: Path) -> None:
    given = {f"{name}_URL_FILE": str(folder / name) for name in ("DATABASE", "AMQP", "REDIS")}
    servers = prepare_servers(folder / "state", environment=given, report=lambda _: None)
    assert servers == Servers(services=(), environment=given)
    assert not (folder / "state").exists()


def test_a_missing_server_is_an_error_that_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no package system
    kind = Kind(
        title="Nosuch", url_variable="NOSUCH_URL", package="nosuch", patterns=("usr/bin/nosuch",)
    )
    with pytest.raises(StackError, match=r"(?s)Nosuch.*apt-get install nosuch.*set NOSUCH_URL"):
        provide([kind], environment={"XDG_CACHE_HOME": str(folder)}, report=lambda _: None)


def test_a_directory_that_the_servers_cannot_reach_is_refused(folder: Path) -> None:
    folder.chmod(0o700)
    if ROOT:  # they run as other users
        with pytest.raises(StackError, match=f"{folder} is closed to them"):
            StateDirectory.create(folder / "state")
    else:  # they run as we do, and reach what we reach
        assert StateDirectory.create(folder / "state").path.is_dir()


def test_a_directory_with_a_space_in_its_path_is_refused(folder: Path) -> None:
    with pytest.raises(StackError, match="has a space"):
        StateDirectory.create(folder / "my state")


def test_secrets_last_and_only_we_can_read_them(folder: Path) -> None:
    state = StateDirectory.create(folder / "state")
    secret = state.secret("one")
    assert len(secret) >= 32
    assert StateDirectory.create(folder / "state").secret("one") == secret
    assert state.secret("another") != secret
    assert (state.path / "secrets/one").stat().st_mode & 0o777 == 0o600


def test_the_state_directory_is_where_the_environment_says(tmp_path: Path) -> None:
    assert default_directory({"SLIMTRACK_STATE_DIR": str(tmp_path)}) == tmp_path
    default = default_directory({"XDG_STATE_HOME": str(tmp_path)})
    assert default == (Path("/var/lib/slimtrack") if ROOT else tmp_path / "slimtrack")


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not set(ports) & DEFAULT_PORTS
    assert max(ports) < 32768


def main(directory: Path) -> None:
    """Start servers as a parent that is killed later; say their URLs when they are ready."""
    servers = prepare(directory)
    start(servers, directory, death=signal.SIGKILL)
    sys.stdout.write(json.dumps(dict(servers.environment)) + "\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
