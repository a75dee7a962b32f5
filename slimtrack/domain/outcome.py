"""Test outcomes: what orders with a magic reference meet with on their way.

They let an integrator see every way an order may take without waiting for an accident. Only
simulated orders have one; the reference is ``test:`` and the outcome, and may go on after a slash,
so that it stays unique: ``test:delivery_failed/17``.
"""

from enum import StrEnum
from typing import Final

from slimtrack.domain.errors import SlimTrackError

_PREFIX: Final = "test:"


class Outcome(StrEnum):
    """What happens to a test order."""

    #: The stage in_transit fails at its first attempt and succeeds at the second.
    FAILS_ONCE = "fails_once"
    #: The stage in_transit fails at every attempt, until its row is a dead letter.
    FAILS_ALWAYS = "fails_always"
    #: The stage in_transit becomes due 30 s later than usual.
    SLOW = "slow"
    #: The first delivery fails, the second succeeds.
    DELIVERY_FAILED = "delivery_failed"
    #: Every delivery fails, and the parcel is returned.
    RETURNED = "returned"
    #: The order is cancelled while the work of the stage in_transit is under way.
    CANCELLED = "cancelled"


class SimulatedFailureError(SlimTrackError):
    """The failure that the reference of a test order asks for."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"The order's reference asks for this failure: {reference_of(outcome)}.")


def reference_of(outcome: Outcome) -> str:
    """Return the reference that asks for an outcome."""
    return f"{_PREFIX}{outcome}"


def outcome_of(reference: str | None) -> Outcome | None:
    """Return the outcome that a reference asks for; None for that of a usual order."""
    if reference is None or not reference.startswith(_PREFIX):
        return None
    name = reference.removeprefix(_PREFIX).partition("/")[0]
    return Outcome(name) if name in set(Outcome) else None
