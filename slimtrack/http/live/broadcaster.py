"""How a resource answers with a stream of server-sent events.

An open stream holds no thread of gunicorn's. Gunicorn writes the head of the answer and its first
piece; then the connection is taken from it, and it is left with a socket that leads nowhere.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import falcon

from slimtrack.http import problems
from slimtrack.http.live.channel import Channel
from slimtrack.http.live.loop import StreamLoop
from slimtrack.http.live.stream import Stream
from slimtrack.http.live.topic import Topic

MEDIA_TYPE: Final = "text/event-stream"

#: Streams per process, at most, and those of one owner: a tenth. A browser has one for each page
#: that is to be seen, but a team may share a key, or a whole office an address.
_LIMIT: Final = 1000
_LIMIT_PER_OWNER: Final = 100
#: Seconds between two looks at what is watched.
_INTERVAL: Final = 1.0
#: Milliseconds after which a browser whose stream has ended opens another.
_RETRY: Final = b"retry: 2000\n\n"


class Broadcaster:
    """Sends to whoever watches what has changed.

    It begins with the first stream, after the fork, and reads only what somebody watches.

    Args:
        limit: streams at a time.
        limit_per_owner: of them, those of one owner.
        interval: seconds between two looks at what is watched.
    """

    def __init__(
        self,
        *,
        limit: int = _LIMIT,
        limit_per_owner: int = _LIMIT_PER_OWNER,
        interval: float = _INTERVAL,
    ) -> None:
        self._limit = limit
        self._limit_per_owner = limit_per_owner
        self._interval = interval
        self._lock = threading.Lock()
        self._loop: StreamLoop | None = None

    def attach(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        topic: Topic,
        owner: str,
        key: str = "",
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        """Answer a request with an endless stream: the state now, and whenever it differs.

        A server other than gunicorn, or one that speaks TLS itself, gives no connection away. There
        the answer is the state now and ends; a browser asks again every two seconds.

        Args:
            req: the request.
            resp: its answer.
            topic: what is watched.
            owner: who watches, and may have only so many streams.
            key: which of it.
            allowed: asked every few seconds whether the stream may go on; where that cannot be
                known it raises, and the stream goes on.

        Raises:
            Problem: there are too many streams, or too many of the owner.
        """
        connection = req.env.get("gunicorn.socket")
        # An encrypted one is of a class of its own.
        if type(connection) is not socket.socket:
            resp.data = _RETRY + Channel(topic).read_once(key)
        elif self._loop and not self._loop.has_room():
            raise problems.too_many_streams()
        elif self._loop and not self._loop.has_room_for(owner):
            raise problems.too_many_streams_of_one(self._limit_per_owner)
        else:
            chunked = req.env["SERVER_PROTOCOL"] != "HTTP/1.0"
            resp.stream = self._hand_over(
                connection, topic=topic, key=key, chunked=chunked, owner=owner, allowed=allowed
            )
        resp.content_type = MEDIA_TYPE
        resp.set_header("X-Accel-Buffering", "no")  # nginx would keep what it gets for a while

    def close(self) -> None:
        """End all streams."""
        if self._loop:
            self._loop.close()

    def _hand_over(
        self,
        connection: socket.socket,
        *,
        topic: Topic,
        key: str,
        chunked: bool,
        owner: str,
        allowed: Callable[[], bool],
    ) -> Iterator[bytes]:
        yield _RETRY  # with which gunicorn sends the head
        taken = _take(connection)
        stream = Stream(taken, topic=topic, key=key, chunked=chunked, owner=owner, allowed=allowed)
        with self._lock:
            if self._loop is None:
                self._loop = StreamLoop(
                    limit=self._limit,
                    limit_per_owner=self._limit_per_owner,
                    interval=self._interval,
                )
        self._loop.add(stream)


def _take(connection: socket.socket) -> socket.socket:
    """Return the connection, and leave gunicorn a broken one in its place.

    Its next write fails as if the reader had hung up. That is the end of the request: the thread is
    free, and what is closed is not the stream.
    """
    taken = connection.dup()
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        os.dup2(ours.fileno(), connection.fileno(), inheritable=False)
    return taken
