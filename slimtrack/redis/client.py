"""A server that can be done without: asked while it answers, left alone for a moment when not."""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import structlog

_log: Final = structlog.get_logger()

#: Seconds that Redis has to answer, and for which nobody asks it after it did not.
TIMEOUT: Final = 0.1
_PAUSE: Final = 1.0

T = TypeVar("T")


class OptionalServer:
    """Asks a server, and does without it where it fails.

    Args:
        name: of the server, for the log.
        clock: seconds that only go forward.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._silent_until = 0.0

    def ask(self, question: Callable[[], T]) -> T | None:
        """Return the answer; None where there is none now."""
        if self._clock() < self._silent_until:
            return None
        try:
            return question()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, we go on
            self._silent_until = self._clock() + _PAUSE
            _log.warning(
                "server.unanswered", server=self._name, error=f"{type(error).__name__}: {error}"
            )
            return None


def connect_redis(redis_url: str) -> Any:
    """Return a client of Redis that waits for nothing; it connects when it is used."""
    # Takes longer to import than all else that a command needs, and only the API asks.
    import redis  # noqa: PLC0415 - as above

    return redis.Redis.from_url(
        redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
    )
