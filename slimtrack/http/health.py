"""The resources for those who watch the process."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Final, Literal

import falcon
import msgspec

from slimtrack.http.auth import PUBLIC


class Health(msgspec.Struct):
    """Whether the process answers."""

    status: Literal["live"]


class Readiness(msgspec.Struct):
    """Whether the process can work, which of its servers answer, and which processes work.

    ``processes`` names the publisher, and for workers the queue that they take from: up if at least
    one has given a sign of life lately, unknown while the database is away.
    """

    status: Literal["ready", "degraded", "unavailable"]
    dependencies: dict[str, Literal["up", "down"]]
    processes: dict[str, Literal["up", "down", "unknown"]]


class LivenessProbe:
    """`/health/live`: whether this process answers at all."""

    scopes = PUBLIC

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say so."""
        resp.media = Health("live")


#: Seconds for which an answer of the dependencies holds: anybody may ask, as often as they like.
_HOLDS: Final = 1.0
#: Seconds for which it is told to those who cannot wait until the next one is there.
_LASTS: Final = 5.0
_WORDS: Final[Mapping[bool | None, Literal["up", "down", "unknown"]]] = {
    True: "up",
    False: "down",
    None: "unknown",
}


class ReadinessProbe:
    """`/health/ready`: whether this process can do its work.

    Args:
        dependencies: by name, whether a server answers; quick, and never raises.
        required: names of those without which nothing can be done.
        who_works: by name, whether such a process works, None where that is not known; quick, and
            never raises.
    """

    scopes = PUBLIC

    def __init__(
        self,
        dependencies: Mapping[str, Callable[[], bool]],
        *,
        required: Collection[str],
        who_works: Callable[[], Mapping[str, bool | None]],
    ) -> None:
        self._dependencies = dependencies
        self._required = required
        self._who_works = who_works
        self._lock = threading.Lock()
        self._asked_at = -inf
        self._up: Mapping[str, bool] = {}
        self._working: Mapping[str, bool | None] = {}

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Name the state of each dependency, and who works."""
        up, working = self._ask()
        status: Literal["ready", "degraded", "unavailable"]
        if not all(up[name] for name in self._required):
            status = "unavailable"
            resp.status = falcon.HTTP_SERVICE_UNAVAILABLE
        elif all(up.values()) and all(working.values()):
            status = "ready"
        else:  # orders are accepted all the same, and wait
            status = "degraded"
        resp.media = Readiness(
            status,
            {name: "up" if answers else "down" for name, answers in up.items()},
            {name: _WORDS[works] for name, works in working.items()},
        )

    def _ask(self) -> tuple[Mapping[str, bool], Mapping[str, bool | None]]:
        # A server that stands still keeps whoever asked it: nobody else waits for that answer.
        if not self._lock.acquire(timeout=_HOLDS):
            if time.monotonic() - self._asked_at < _LASTS:
                return self._up, self._working
            return dict.fromkeys(self._dependencies, False), dict.fromkeys(self._working, None)
        try:
            if time.monotonic() - self._asked_at > _HOLDS:
                self._up = {name: answers() for name, answers in self._dependencies.items()}
                self._working = self._who_works()
                self._asked_at = time.monotonic()
            return self._up, self._working
        finally:
            self._lock.release()
