"""A private PostgreSQL: its data, its configuration, its probe."""

import pwd
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import psycopg
from psycopg.pq import ExecStatus, PGconn, PollingStatus, abc

from slimtrack.domain.errors import StackError
from slimtrack.stack.directory import StateDirectory, account_for, is_locked, locking
from slimtrack.stack.provision import Program
from slimtrack.stack.service import Service

_SETTINGS: Final = """\
# Written anew at each start of the stack: changes are lost.
include '{data}/postgresql.conf'       # what initdb found out about this machine

listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''           # a password for everybody, and no path that is too long

max_connections = 200                  # api, publisher and four worker groups take about 60
shared_buffers = 128MB                 # the hot tables are small; the rest is the system's cache
wal_compression = on                   # full-page images are most of the WAL; costs little CPU
max_wal_size = 2GB                     # a checkpoint by time, not by size, under an import
checkpoint_timeout = 15min             # fewer full-page images; recovery still takes seconds
"""


def prepare(state: StateDirectory, program: Program, *, port: int) -> tuple[Service, str]:
    """Make the database on the first start; return the server and its URL."""
    user = account_for("postgres")
    password = state.secret("postgresql")
    folder = state.folder("postgresql")
    data = folder / "data"
    if data.exists():
        program = _program_of(data, program)
        # A stale one may name a process that is another's by now, which then forbids the start.
        if not is_locked(data):
            (data / "postmaster.pid").unlink(missing_ok=True)
    else:
        _create(state, program, password=password, user=user)
    settings = state.write(
        "postgresql/postgresql.conf", _SETTINGS.format(data=data, port=port), user=user
    )
    url = f"postgresql://slimtrack:{password}@127.0.0.1:{port}/slimtrack"
    service = Service(
        name="postgresql",
        command=locking(data, str(program.path), "-D", str(data), "-c", f"config_file={settings}"),
        ready=lambda: answers(url),
        env=program.env,
        user=user,
        stop_signal=signal.SIGINT,  # fast: ends the sessions, then writes a checkpoint
        ready_timeout=300,  # after a crash it first replays up to 2 GB of WAL
        stop_timeout=60,
        address=f"postgresql://127.0.0.1:{port}/slimtrack",
    )
    return service, url


def answers(url: str, *, timeout: float = 1.0) -> bool:
    """Say whether the server lets us in and runs a statement.

    Not ``psycopg.connect``: it waits for two seconds at least, and then without end for the
    answer of a server that is stopped.
    """
    deadline = time.monotonic() + timeout
    connection = PGconn.connect_start(url.encode())
    try:
        return _connected(connection, deadline) and _selects(connection, deadline)
    except psycopg.Error:
        return False
    finally:
        connection.finish()


def _connected(connection: abc.PGconn, deadline: float) -> bool:
    while (state := connection.connect_poll()) != PollingStatus.OK:
        if state == PollingStatus.FAILED:
            return False
        if not _wait(connection, deadline, writing=state == PollingStatus.WRITING):
            return False
    return True


def _selects(connection: abc.PGconn, deadline: float) -> bool:
    connection.send_query(b"SELECT 1")
    while connection.is_busy():
        if not _wait(connection, deadline):
            return False
        connection.consume_input()
    result = connection.get_result()
    return result is not None and result.status == ExecStatus.TUPLES_OK


def _wait(connection: abc.PGconn, deadline: float, *, writing: bool = False) -> bool:
    with selectors.DefaultSelector() as selector:
        wanted = selectors.EVENT_WRITE if writing else selectors.EVENT_READ
        selector.register(connection.socket, wanted)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))


def _create(state: StateDirectory, program: Program, *, password: str, user: str | None) -> None:
    """Make the database cluster, whole or not at all."""
    draft = state.path / "postgresql/new"
    shutil.rmtree(draft, ignore_errors=True)
    state.folder("postgresql/new", user=user)
    secret = state.write("postgresql/password", password, user=user)
    _run(
        *(str(program.path.with_name("initdb")), "-D", str(draft), "--username=slimtrack"),
        *("--auth=scram-sha-256", f"--pwfile={secret}", "--data-checksums"),
        *("--encoding=UTF8", "--locale=C.UTF-8"),
        program=program,
        user=user,
    )
    secret.unlink()
    # Before the server takes its first connection, so that ready means that it is there.
    _run(
        *(str(program.path), "--single", "-D", str(draft), "postgres"),
        program=program,
        user=user,
        given="CREATE DATABASE slimtrack\n",
    )
    draft.rename(state.path / "postgresql/data")


def _program_of(data: Path, program: Program) -> Program:
    """Choose the program of the version that made the data: no other one reads it."""
    version = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if program.path.parts[-3] in {version, "usr"}:
        return program
    path = program.path.parents[2] / version / "bin/postgres"
    if not path.exists():
        raise StackError(
            f"The data in {data} is of PostgreSQL {version}, and only "
            f"{program.path.parts[-3]} is on this machine. Install postgresql-{version}, "
            f"or move {data.parent} away to start without the data."
        )
    return Program(path, program.root)


def _run(*command: str, program: Program, user: str | None, given: str = "") -> None:
    done = subprocess.run(  # noqa: S603 - programs of PostgreSQL with arguments of our own
        command,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=dict(program.env),
        cwd="/",
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode != 0:
        raise StackError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
