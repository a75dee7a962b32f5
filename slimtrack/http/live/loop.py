"""The thread that serves all streams of a process, and reads what they watch."""

import selectors
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Final

import structlog

from slimtrack.domain.errors import UnavailableError
from slimtrack.http.live.channel import Channel
from slimtrack.http.live.stream import Stream
from slimtrack.http.live.topic import Topic
from slimtrack.telemetry import errors

#: Seconds between two comments that keep a quiet stream open, also in the eyes of a proxy.
_KEEP_ALIVE: Final = 15.0
#: Seconds between two questions whether a stream may go on.
_REVALIDATE: Final = 5.0

_STILL_HERE: Final = b": still here\n\n"

_log: Final = structlog.get_logger()


class StreamLoop:
    """The thread that serves all streams of a process.

    Args:
        limit: streams at a time.
        limit_per_owner: of them, those of one owner.
        interval: seconds between two looks at what is watched.
        keep_alive: seconds between two comments.
    """

    def __init__(
        self,
        *,
        limit: int,
        limit_per_owner: int,
        interval: float,
        keep_alive: float = _KEEP_ALIVE,
    ) -> None:
        self._limit = limit
        self._limit_per_owner = limit_per_owner
        self._interval = interval
        self._every = keep_alive
        self._lock = threading.Lock()
        self._count = 0
        self._owned: Counter[str] = Counter()
        self._channels: dict[Topic, Channel] = {}
        self._streams: set[Stream] = set()
        self._arriving: SimpleQueue[Stream] = SimpleQueue()
        self._looked_at = self._kept_alive_at = self._revalidates_from = -inf
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="live streams", daemon=True)
        self._thread.start()

    def has_room(self) -> bool:
        """Whether anybody may open a stream."""
        return self._count < self._limit

    def has_room_for(self, owner: str) -> bool:
        """Whether an owner may."""
        return self._owned[owner] < self._limit_per_owner

    def add(self, stream: Stream) -> None:
        """Serve a stream from now on, or end it where others were quicker."""
        with self._lock:
            if not (self.has_room() and self.has_room_for(stream.owner)):
                stream.close()
                return
            self._count += 1
            self._owned[stream.owner] += 1
        self._arriving.put(stream)
        self._wake_up()

    def close(self) -> None:
        """End all streams."""
        self._ending = True
        self._wake_up()
        self._thread.join(timeout=2)

    def _wake_up(self) -> None:
        with suppress(OSError):  # it is awake, and has not looked yet; or it has ended
            self._wake.send(b"\0")

    def _run(self) -> None:
        while not self._ending:
            self._wait()
            self._accept()
            if time.monotonic() - self._looked_at >= self._interval:
                self._looked_at = time.monotonic()
                self._look()
                self._revalidate()
            self._keep_alive()
            self._drop_dead()
        self._accept()
        for stream in self._streams:
            stream.close()
        for each in (self._selector, self._woken, self._wake):
            each.close()

    def _wait(self) -> None:
        """Wait for somebody to come, take, hang up; for the next look, if anybody watches."""
        due = self._looked_at + self._interval
        rest = max(0.0, due - time.monotonic()) if self._streams else None
        for key, mask in self._selector.select(rest):
            if not isinstance(key.fileobj, Stream):
                with suppress(BlockingIOError):
                    self._woken.recv(4096)
                continue
            if mask & selectors.EVENT_READ:
                key.fileobj.listen()
            if mask & selectors.EVENT_WRITE:
                key.fileobj.flush()

    def _accept(self) -> None:
        with suppress(Empty):
            while True:
                stream = self._arriving.get_nowait()
                self._streams.add(stream)
                self._selector.register(stream, selectors.EVENT_READ)
                channel = self._channels.setdefault(stream.topic, Channel(stream.topic))
                channel.add(stream)

    def _look(self) -> None:
        """Look at every topic; while the database is away each may take seconds."""
        for channel in self._channels.values():
            if self._ending:
                return
            channel.look()
            self._keep_alive()

    def _revalidate(self) -> None:
        """End the streams of those who may not go on.

        Where that cannot be known of one, it cannot be known of the others: they are asked later.
        """
        now = time.monotonic()
        if now < self._revalidates_from:
            return
        for stream in self._streams:
            if self._ending:
                return
            if now - stream.validated_at < _REVALIDATE:
                continue
            stream.validated_at = now
            try:
                stream.alive = stream.alive and stream.allowed()
            except UnavailableError:
                self._revalidates_from = time.monotonic() + _REVALIDATE
                return
            except Exception as error:  # noqa: BLE001 - the other streams go on
                stream.alive = False
                _log.error("stream.failed", exc_info=error)
                errors.report(error)
            self._keep_alive()

    def _keep_alive(self) -> None:
        """Have quiet streams stay open, whenever it is time."""
        now = time.monotonic()
        if now - self._kept_alive_at < self._every:
            return
        self._kept_alive_at = now
        for stream in self._streams:
            if not stream.is_behind:
                stream.send(_STILL_HERE)

    def _drop_dead(self) -> None:
        """Part with those who are gone or have had their time; see who may take more."""
        now = time.monotonic()
        for stream in list(self._streams):
            if stream.alive and not stream.is_stuck and now < stream.ends_at:
                continue
            self._streams.remove(stream)
            self._release(stream.owner)
            self._channels[stream.topic].remove(stream)
            self._selector.unregister(stream)
            stream.close()
        for stream in self._streams:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.is_behind else 0)
            if self._selector.get_key(stream).events != wanted:
                self._selector.modify(stream, wanted)

    def _release(self, owner: str) -> None:
        with self._lock:
            self._count -= 1
            self._owned[owner] -= 1
            if not self._owned[owner]:
                del self._owned[owner]
