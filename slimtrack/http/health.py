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
    """Whether the process can work, and which of its servers answer."""

    status: Literal["ready", "degraded", "unavailable"]
    dependencies: dict[str, Literal["up", "down"]]


class LivenessProbe:
    """`/health/live`: whether this process answers at all."""

    scopes = PUBLIC

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Say so."""
        resp.media = Health("live")


#: Seconds for which an answer of the dependencies holds: anybody may ask, as often as they like.
_HOLDS: Final = 1.0


class ReadinessProbe:
    """`/health/ready`: whether this process can do its work.

    Args:
        dependencies: by name, whether a server answers; quick, and never raises.
        required: names of those without which nothing can be done.
    """

    scopes = PUBLIC

    def __init__(
        self, dependencies: Mapping[str, Callable[[], bool]], *, required: Collection[str]
    ) -> None:
        self._dependencies = dependencies
        self._required = required
        self._lock = threading.Lock()
        self._asked_at = -inf
        self._up: Mapping[str, bool] = {}

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Name the state of each dependency."""
        up = self._ask()
        status: Literal["ready", "degraded", "unavailable"]
        if not all(up[name] for name in self._required):
            status = "unavailable"
            resp.status = falcon.HTTP_SERVICE_UNAVAILABLE
        else:
            status = "ready" if all(up.values()) else "degraded"
        resp.media = Readiness(
            status, {name: "up" if answers else "down" for name, answers in up.items()}
        )

    def _ask(self) -> Mapping[str, bool]:
        # A server that stands still keeps whoever asked it: nobody else waits for that answer.
        if not self._lock.acquire(timeout=_HOLDS):
            return dict.fromkeys(self._dependencies, False)
        try:
            if time.monotonic() - self._asked_at > _HOLDS:
                self._up = {name: answers() for name, answers in self._dependencies.items()}
                self._asked_at = time.monotonic()
            return self._up
        finally:
            self._lock.release()
