"""A topic, and those who watch it."""

import time
from collections import defaultdict
from collections.abc import Mapping
from math import inf
from typing import Final

import msgspec
import structlog

from slimtrack.domain.errors import UnavailableError
from slimtrack.http.live.stream import Stream
from slimtrack.http.live.topic import Topic
from slimtrack.sql.errors import is_infrastructure
from slimtrack.telemetry import errors
from slimtrack.telemetry.scrubbing import first_line

#: How much longer than it took the look at a topic is followed by none.
_SHARE: Final = 19
#: Seconds without a look after one that failed, at most: that it is back should be seen soon.
_RETRY: Final = 5.0

_AWAY: Final = b"event: away\ndata: {}\n\n"

_log: Final = structlog.get_logger()


class Channel:
    """A topic, and those who watch it."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._watched: dict[str, set[Stream]] = defaultdict(set)
        self._sent: dict[str, bytes] = {}
        self._is_away = False
        self._rests_until = -inf

    def add(self, stream: Stream) -> None:
        """Send what is known already; what is not, the next look finds."""
        self._watched[stream.key].add(stream)
        if self._is_away:
            stream.send(_AWAY)
        elif stream.key in self._sent:
            stream.send(self._sent[stream.key])

    def remove(self, stream: Stream) -> None:
        """Forget a stream, and what nobody watches any more."""
        streams = self._watched[stream.key]
        streams.remove(stream)
        if not streams:
            del self._watched[stream.key]
            self._sent.pop(stream.key, None)

    def look(self) -> None:
        """Read all that is watched, and send what differs from what was sent last.

        What takes long is read more seldom, so that it takes a twentieth of the time at most.
        """
        if not self._watched:
            self._is_away = False
            return
        began = time.monotonic()
        if began < self._rests_until:
            return
        events = self._read(frozenset(self._watched))
        ended = time.monotonic()
        rest = _SHARE * (ended - began)
        self._rests_until = ended + (min(rest, _RETRY) if events is None else rest)
        if events is None:
            if not self._is_away:
                self._is_away = True
                self._sent.clear()  # all is sent again once it is back
                self._send(self._watched, _AWAY)
            return
        self._is_away = False
        for key in self._watched.keys() & events.keys():
            if self._sent.get(key) != events[key]:
                self._sent[key] = events[key]
                self._send([key], events[key])

    def read_once(self, key: str) -> bytes:
        """Return the event that tells the state of a key, for somebody who does not stay."""
        events = self._read(frozenset({key}))
        return _AWAY if events is None else events.get(key, b"")

    def _read(self, keys: frozenset[str]) -> Mapping[str, bytes] | None:
        try:
            return {
                key: b"data: %b\n\n" % msgspec.json.encode(state)
                for key, state in self._topic.read(keys).items()
            }
        except Exception as error:  # noqa: BLE001 - whatever it is, the other streams go on
            if self._is_away:
                pass  # it has been told
            elif isinstance(error, UnavailableError) or is_infrastructure(error):
                _log.warning("topic.lost", error=first_line(str(error)))
            else:
                _log.error("topic.failed", exc_info=error)
                errors.report(error)
            return None

    def _send(self, keys: Mapping[str, object] | list[str], event: bytes) -> None:
        for key in keys:
            for stream in self._watched[key]:
                stream.send(event)
