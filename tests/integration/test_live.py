"""Streams of what happens, as gunicorn serves them: they hold no thread, and cost one read."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import falcon
import falcon.testing
import live_app
import psycopg
import pytest
from api_server import COMMAND, GET, Server, serve
from observing import wait_until
from psycopg import sql

from slimtrack.domain.errors import UnavailableError
from slimtrack.http.live import Broadcaster
from slimtrack.http.live.channel import Channel
from slimtrack.http.live.loop import StreamLoop
from slimtrack.http.live.stream import Stream

TESTS = Path(live_app.__file__).parent
#: Descriptors that the thread of the streams keeps.
EXTRA = 3


class Reader:
    """Somebody who watches a row."""

    def __init__(
        self, server: Server, key: str = "a", *, version: str = "1.1", owner: str = ""
    ) -> None:
        self.text = ""
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._socket.sendall(
            f"GET /live/{key} HTTP/{version}\r\nHost: a\r\nOwner: {owner}\r\n\r\n".encode()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read_until(self, wanted: str) -> str:
        """Return all that has arrived, once that is among it."""
        while wanted not in self.text:
            piece = self._socket.recv(65536)
            assert piece, f"ended without {wanted!r}: {self.text[-500:]!r}"
            self.text += piece.decode()
        return self.text

    def read_to_the_end(self) -> str:
        while piece := self._socket.recv(65536):
            self.text += piece.decode()
        return self.text


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    """What can be watched: a and b."""
    connection.execute(live_app.TABLES)
    connection.execute("INSERT INTO watched VALUES ('a', 'first'), ('b', 'other')")
    return connection


@pytest.fixture
def server(
    environment: dict[str, str], rows: psycopg.Connection, tmp_path: Path
) -> Iterator[Server]:
    assert rows
    environment |= {"PYTHONPATH": str(TESTS)}
    # A worker takes the files that it may have, as far as the hard limit.
    command = ["prlimit", "--nofile=64:1024", *COMMAND[:-1], "live_app:create_app()"]
    with serve(environment, tmp_path, workers=1, command=command) as started:
        yield started


def change(rows: psycopg.Connection, state: str) -> None:
    rows.execute("UPDATE watched SET state = %s WHERE key = 'a'", (state,))


def looks(rows: psycopg.Connection) -> int:
    return one(rows.execute("SELECT last_value FROM looks"))


def one(cursor: psycopg.Cursor) -> int:
    (value,) = cursor.fetchone() or (0,)
    return int(value)


def descriptors(server: Server) -> int:
    (worker,) = server.workers()
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def memory(server: Server) -> int:
    """Return what the worker has of its own, in kB."""
    (worker,) = server.workers()
    (found,) = re.findall(r"RssAnon:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())
    return int(found)


def test_fifty_streams_and_two_threads_leave_room_for_other_requests(
    server: Server, rows: psycopg.Connection
) -> None:
    with ExitStack() as open_pages:
        readers = [open_pages.enter_context(Reader(server)) for _ in range(50)]
        for reader in readers:
            head = reader.read_until('data: "first"')
            assert head.startswith("HTTP/1.1 200 OK")
            assert "content-type: text/event-stream" in head
            assert "retry: 2000" in head
        begun, looked = time.monotonic(), looks(rows)
        for _ in range(20):
            assert server.send(GET + b"\r\n").status == 200
        change(rows, "second")
        for reader in readers:
            reader.read_until('data: "second"')
        ticks = (time.monotonic() - begun) / 0.5
        assert looks(rows) - looked <= ticks + 1  # however many watch
        assert time.monotonic() - begun < 3
        old = open_pages.enter_context(Reader(server, version="1.0"))
        assert old.read_until('data: "second"\n\n').endswith('\n\ndata: "second"\n\n')
        other = open_pages.enter_context(Reader(server, "b"))
        assert '"second"' not in other.read_until('data: "other"')


def test_nothing_is_read_when_nobody_watches_and_who_hangs_up_is_noticed(
    server: Server, rows: psycopg.Connection
) -> None:
    assert not one(rows.execute("SELECT is_called::int FROM looks"))
    before = descriptors(server)
    with Reader(server) as reader, Reader(server, "b") as other:
        reader.read_until('"first"')
        other.read_until('"other"')
    wait_until(lambda: descriptors(server) <= before + EXTRA)
    looked = looks(rows)
    time.sleep(1.5)  # three looks, while somebody watches
    assert looks(rows) == looked


def test_more_streams_than_there_may_be_are_refused(server: Server) -> None:
    with ExitStack() as open_pages:
        for number in range(live_app.LIMIT):
            reader = Reader(server, owner=str(number % 2))
            open_pages.enter_context(reader).read_until('"first"')
        answer = server.send(b"GET /live/a HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
    wait_until(lambda: admits(server))


def test_nobody_has_more_streams_than_one_may(server: Server) -> None:
    with ExitStack() as open_pages:
        for _ in range(live_app.LIMIT_PER_OWNER):
            open_pages.enter_context(Reader(server, owner="one")).read_until('"first"')
        answer = server.send(b"GET /live/a HTTP/1.1\r\nHost: a\r\nOwner: one\r\n\r\n")
        assert answer.status == 429
        assert b"Close one, and try again." in answer.body
        assert answer.headers["Retry-After"]
        open_pages.enter_context(Reader(server, owner="other")).read_until('"first"')
    wait_until(lambda: admits(server, owner="one"))


def admits(server: Server, *, owner: str = "") -> bool:
    with Reader(server, owner=owner) as reader:
        return "200 OK" in reader.read_until("\r\n")


def test_who_takes_nothing_is_given_up_and_holds_up_nobody(
    server: Server, rows: psycopg.Connection
) -> None:
    with Reader(server) as slow, Reader(server) as quick:
        for reader in (slow, quick):
            reader.read_until('"first"')
        before = descriptors(server)
        number = 0

        def is_given_up() -> bool:
            nonlocal number
            number += 1
            change(rows, f"{'x' * 200_000} {number}.")
            quick.read_until(f" {number}.")
            quick.text = ""
            return descriptors(server) < before

        wait_until(is_given_up)
        change(rows, "done")
        quick.read_until('"done"')


def test_a_database_that_is_away_is_told_and_that_it_is_back(
    server: Server, rows: psycopg.Connection, servers: dict[str, str]
) -> None:
    database = sql.Identifier(rows.info.dbname)
    with Reader(server) as reader:
        reader.read_until('"first"')
        with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
            try:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'live'"
                )
                reader.read_until("event: away")
                with Reader(server, "b") as late:
                    late.read_until("event: away")
            finally:
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
        reader.text = ""
        assert "away" not in reader.read_until('"first"')


def test_a_stream_ends_when_it_may_not_go_on(server: Server, rows: psycopg.Connection) -> None:
    with Reader(server) as reader, Reader(server, "b") as other:
        reader.read_until('"first"')
        rows.execute("UPDATE watched SET revoked = true WHERE key = 'a'")
        assert reader.read_to_the_end().endswith("0\r\n\r\n")
        rows.execute("UPDATE watched SET state = 'still' WHERE key = 'b'")
        other.read_until('"still"')


def test_a_server_stops_at_once_however_many_watch(server: Server) -> None:
    with ExitStack() as open_pages:
        readers = [open_pages.enter_context(Reader(server)) for _ in range(20)]
        for reader in readers:
            reader.read_until('"first"')
        workers, begun = server.workers(), time.monotonic()
        server.process.terminate()
        for reader in readers:
            assert reader.read_to_the_end().endswith("0\r\n\r\n")
        server.wait_until_gone(workers)
        assert time.monotonic() - begun < 5


def test_those_who_come_and_go_leave_nothing_behind(server: Server) -> None:
    def come_and_go(times: int) -> None:
        for _ in range(times):
            with Reader(server) as reader:
                reader.read_until("retry")
        with Reader(server) as reader:
            reader.read_until('"first"')
        wait_until(lambda: descriptors(server) <= before + EXTRA)

    before = descriptors(server)
    come_and_go(200)
    used = memory(server)
    come_and_go(1000)
    assert memory(server) - used < 1000


class Slow:
    looks = 0

    def read(self, keys: frozenset[str]) -> dict[str, object]:
        self.looks += 1
        time.sleep(0.1)
        return dict.fromkeys(keys, self.looks)


def test_what_takes_long_is_looked_at_a_twentieth_of_the_time_at_most() -> None:
    slow = Slow()
    channel = Channel(slow)
    taken, reader = socket.socketpair()
    with reader:
        stream = Stream(taken, topic=slow, key="a", chunked=False, owner="", allowed=lambda: True)
        channel.add(stream)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            channel.look()
        stream.close()
        assert slow.looks == 3
        assert reader.recv(1000) == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"


def connect(*, receive: int = 0) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection; its reader has so many bytes for what it has not read."""
    reader = socket.socket()
    if receive:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reader.connect(listening.getsockname())
        taken, _ = listening.accept()
    return taken, reader


def begin(*, limit: int = 100, keep_alive: float = 15) -> StreamLoop:
    return StreamLoop(limit=100, limit_per_owner=limit, interval=0.5, keep_alive=keep_alive)


class Growing:
    looks = 0

    def read(self, keys: frozenset[str]) -> dict[str, object]:
        self.looks += 1
        return dict.fromkeys(keys, f"{self.looks} {'x' * 1000}")


@pytest.mark.parametrize("limits", [{"silence": 1}, {"lifetime": 1}])
def test_whoever_never_reads_is_given_up(limits: dict[str, float]) -> None:
    """By what the system says of a machine that takes nothing; by its time where it takes all."""
    taken, reader = connect(receive=1 if "silence" in limits else 0)
    with reader, closing(begin(limit=1)) as served:
        stream = Stream(
            taken, topic=Growing(), key="", chunked=True, owner="", allowed=lambda: True, **limits
        )
        served.add(stream)
        assert not served.has_room_for("")
        begun = time.monotonic()
        wait_until(lambda: stream.fileno() < 0)
        assert time.monotonic() - begun < 5
        assert served.has_room_for("")


def test_while_it_cannot_be_known_who_may_go_on_streams_go_on() -> None:
    asked = 0

    def allowed() -> bool:
        nonlocal asked
        asked += 1
        time.sleep(0.3)
        raise UnavailableError

    growing = Growing()
    with ExitStack() as open_pages:
        served = open_pages.enter_context(closing(begin()))
        for _ in range(20):
            taken, reader = connect()
            open_pages.enter_context(reader)
            served.add(
                Stream(taken, topic=growing, key="", chunked=True, owner="", allowed=allowed)
            )
        wait_until(lambda: growing.looks == 5)
        assert asked == 1


class Hanging:
    def read(self, keys: frozenset[str]) -> dict[str, object]:
        assert keys
        time.sleep(0.4)
        raise UnavailableError


def test_comments_go_out_however_long_the_looks_at_many_topics_take() -> None:
    topics = [Hanging() for _ in range(5)]
    with ExitStack() as open_pages:
        served = open_pages.enter_context(closing(begin(keep_alive=0.3)))
        readers = []
        for topic in topics:
            taken, reader = connect()
            readers.append(open_pages.enter_context(reader))
            served.add(
                Stream(taken, topic=topic, key="", chunked=False, owner="", allowed=lambda: True)
            )
        text = b""
        while b"away" not in text:
            text += readers[-1].recv(1000)
        assert text.count(b"still here") >= len(topics) - 2


class Named:
    def read(self, keys: frozenset[str]) -> dict[str, object]:
        return {key: {"name": key} for key in keys}


class Page:
    def __init__(self) -> None:
        self._broadcaster = Broadcaster()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._broadcaster.attach(req, resp, topic=Named(), owner="", key="a")


def test_without_gunicorn_the_answer_is_the_state_now_and_ends() -> None:
    app = falcon.App()
    app.add_route("/live", Page())
    answer = falcon.testing.TestClient(app).simulate_get("/live")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.text == 'retry: 2000\n\ndata: {"name":"a"}\n\n'
