"""What can go wrong, in the words of the domain."""

from collections.abc import Collection
from uuid import UUID

from slimtrack.domain.order import Status


class SlimTrackError(Exception):
    """Base of every error that SlimTrack raises on purpose."""


class OrderNotFoundError(SlimTrackError):
    """There is no order with this id or tracking code."""

    def __init__(self, order: UUID | str) -> None:
        super().__init__(f"There is no order {order}.")


class EventNotFoundError(SlimTrackError):
    """The order has no event with this number."""

    def __init__(self, order_id: UUID, *, sequence: int) -> None:
        super().__init__(f"Order {order_id} has no event {sequence}.")


class TransitionNotAllowedError(SlimTrackError):
    """An order cannot go from where it is to where it is wanted, or not in that attempt."""

    def __init__(
        self,
        order_id: UUID,
        *,
        status: Status,
        wanted: Status,
        allowed: Collection[Status],
        attempt: int | None = None,
    ) -> None:
        ways = ", ".join(sorted(allowed)) or "nothing: it is final"
        when = f" in delivery attempt {attempt}" if attempt else ""
        super().__init__(
            f"Order {order_id} is {status} and cannot become {wanted}{when};"
            f" what can follow is {ways}."
        )
        self.status = status
        self.allowed = sorted(allowed)


class HistoryFullError(SlimTrackError):
    """The order has as many events as an order may have, or as many as may not move it."""

    def __init__(self, order_id: UUID, *, events: int) -> None:
        super().__init__(f"Order {order_id} has {events} events, and no room for this one.")


class StaleVersionError(SlimTrackError):
    """The order has changed since the caller looked at it."""

    def __init__(self, order_id: UUID, *, version: int) -> None:
        super().__init__(f"Order {order_id} has changed; its version is {version} now.")
        self.version = version


class ReferenceTakenError(SlimTrackError):
    """Another order already has this reference."""

    def __init__(self, *, reference: str, order_id: UUID) -> None:
        super().__init__(f"The reference {reference!r} belongs to order {order_id}.")
        self.reference = reference
        self.order_id = order_id


class FieldError(SlimTrackError):
    """What a caller wants to store in a field of an order does not belong there."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}.")
        self.field = field
        self.reason = reason


class SettingsError(SlimTrackError):
    """The environment does not hold a usable configuration; ``faults`` has a line for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UnavailableError(SlimTrackError):
    """A server that is needed now does not answer; trying again later may succeed."""


class StackError(SlimTrackError):
    """The local stack cannot be started or is not as it should be."""
