"""The resources for those who watch the process."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

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

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Ask each dependency, and name its state."""
        up = {name: answers() for name, answers in self._dependencies.items()}
        status: Literal["ready", "degraded", "unavailable"]
        if not all(up[name] for name in self._required):
            status = "unavailable"
            resp.status = falcon.HTTP_SERVICE_UNAVAILABLE
        else:
            status = "ready" if all(up.values()) else "degraded"
        resp.media = Readiness(
            status, {name: "up" if answers else "down" for name, answers in up.items()}
        )
