"""Work that a stage may be given: what is done outside before an order reaches its next status."""

from typing import Any, Protocol

import msgspec

from slimtrack.domain.errors import SlimTrackError
from slimtrack.domain.order import Order, Status


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage's work is to be done for.

    Attributes:
        idempotency_key: the name of this one thing; the same however often it is asked for, also
            after the restore of a backup. Hand it on to whoever is called.
        stage: what the order reaches when the work is done.
        order: as it is when the work begins.
        payload: what an operator has added to a dead letter before its replay, else empty.
        attempt: counted from 1.
        time_limit: seconds after which nobody waits for the work any more.
        correlation_id: the request that all of this follows from.
    """

    idempotency_key: str
    stage: Status
    order: Order
    payload: dict[str, Any]
    attempt: int
    time_limit: float
    correlation_id: str | None


class StageWork(Protocol):
    """A callable that does a stage's work, in many threads at once.

    It may be called again with the same key when a process or a server failed meanwhile. What it
    raises is a failed attempt; a ``PermanentError`` is the last one.

    It may have an attribute ``undo``, called in the same way when the order turned out not to be
    wanted any more. ``undo`` may be asked for what was never done.
    """

    def __call__(self, assignment: Assignment, /) -> object:
        """Do the work."""


class WorkError(SlimTrackError):
    """The work failed in a way that says nothing about our own servers or this process."""


class TimeLimitExceededError(SlimTrackError):
    """The work took longer than it may; its thread was left behind."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The work took longer than {seconds:g} s.")
