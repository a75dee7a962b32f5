"""What is due after a move."""

from typing import Final, NamedTuple

import msgspec

from slimtrack.domain.order import Status


class Due(NamedTuple):
    """The stage that is due next, and in how many seconds."""

    stage: Status | None
    delay: float


#: After an order's last move.
NOTHING: Final = Due(None, 0.0)


class DeliveryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a failed delivery: after ``pause`` seconds another, ``attempts`` in all."""

    pause: float = 10.0
    attempts: int = 3

    def after(self, attempts: int) -> Due:
        """Return what is due when so many attempts have failed."""
        again = attempts < self.attempts
        return Due(Status.OUT_FOR_DELIVERY if again else Status.RETURNED, self.pause)
