"""What the stack knows of one process that it keeps alive."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process that the stack starts, watches, restarts and stops.

    ``command`` runs in the foreground with exactly ``env`` as its environment. ``ready`` is a
    cheap probe that never raises, asked again and again until it says yes; None means that the
    process says ``READY=1`` to ``NOTIFY_SOCKET`` itself. Only the process itself gets
    ``stop_signal``, never its children.

    With ``watchdog``, it and those of its children that say ``READY=1`` then say ``WATCHDOG=1``
    every second; one that has not for so many seconds stands still, and the whole is started again.
    """

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool] | None
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    #: Seconds until a start counts as failed, and until a stop becomes a kill.
    ready_timeout: float = 60.0
    stop_timeout: float = 30.0
    watchdog: float | None = None
    #: Where people and programs reach it, without a password.
    address: str = ""
    #: Where its metrics are, if anywhere.
    metrics: str = ""
