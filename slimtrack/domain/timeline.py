"""The timeline of an order: its history, and what happened behind it, each after what caused it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from slimtrack.domain.event import OrderEvent
from slimtrack.domain.incident import Incident, IncidentKind
from slimtrack.domain.order import Status


class TimelineEvent(NamedTuple):
    """An event, and what is known of the outbox rows before and after it.

    ``from_sequence`` and ``cause`` are those of its idempotency key.
    """

    event: OrderEvent
    correlation_id: str | None
    from_sequence: int
    cause: str
    published_at: datetime | None
    next_due_at: datetime | None

    @property
    def row(self) -> "RowName | None":
        """The row that led to it; None where a request did."""
        if 0 < self.from_sequence < self.event.sequence:
            return RowName(self.from_sequence, self.cause)
        return None


class RowName(NamedTuple):
    """What is left of a row's idempotency key without the order's id."""

    from_sequence: int
    stage: str


class OpenRow(NamedTuple):
    """An outbox row that waits, or is in flight."""

    stage: str
    from_sequence: int
    available_at: datetime
    published_at: datetime | None
    attempts: int
    begun_at: datetime | None
    undo: bool
    correlation_id: str | None


class EntryKind(StrEnum):
    """What an entry tells: an event, a step of an outbox row, an incident, or what is awaited."""

    TRANSITION = "transition"
    LATE = "late"
    CORRECTION = "correction"
    PROMISED = "promised"
    DUE = "due"
    PUBLISHED = "published"
    UNWANTED = "unwanted"
    FAILED = "failed"
    DELAYED = "delayed"
    REARMED = "rearmed"
    DEAD_LETTER = "dead_letter"
    REPLAYED = "replayed"
    EDITED = "edited"
    DISCARDED = "discarded"
    REPAIRED = "repaired"
    UNDO_PROMISED = "undo_promised"
    UNDONE = "undone"
    WAITING = "waiting"
    DUE_NOW = "due_now"
    IN_FLIGHT = "in_flight"
    IN_PROGRESS = "in_progress"


#: What entries tell of that is still to come.
AWAITED: Final = frozenset(
    {EntryKind.WAITING, EntryKind.DUE_NOW, EntryKind.IN_FLIGHT, EntryKind.IN_PROGRESS}
)
_INCIDENTS: Final = frozenset(map(str, IncidentKind))


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to an order; what is not known, or does not apply, is left out.

    Attributes:
        happened_at: when; for what is still awaited, when it was looked.
        kind: what it is.
        message: for people.
        stage: the stage whose outbox row it is about.
        sequence: of the event, or of the event that the row starts from.
        status: what the order reached, or what a late report says.
        attempt: which attempt failed, or is next, counted from 1; after a replay from 1 again.
        due_at: when the row is due after this.
        repeats: how often the same happened again with nothing in between, last at repeated_at.
        repeated_at: when it did so last.
        error_type: what was raised; only for operators.
        error: what it said; only for operators.
        operator: who did it; only for operators.
        reason: why; what an operator gave as a reason, only for operators.
        location: where it happened, as a report says.
        source: who said so.
        delivery_attempt: the delivery attempt that an event is about, counted from 1.
        corrects: the sequence of the event that was wrong.
        occurred_at: when an event happened, as far as whoever told us knows.
        correlation_id: the request that it follows from.
    """

    happened_at: datetime
    kind: EntryKind
    message: str
    stage: str | None = None
    sequence: int | None = None
    status: Status | None = None
    attempt: int | None = None
    due_at: datetime | None = None
    repeats: int = 0
    repeated_at: datetime | None = None
    error_type: str | None = None
    error: str | None = None
    operator: str | None = None
    reason: str | None = None
    location: str | None = None
    source: str | None = None
    delivery_attempt: int | None = None
    corrects: int | None = None
    occurred_at: datetime | None = None
    correlation_id: str | None = None


class Timeline(msgspec.Struct, frozen=True):
    """What happened to an order, and what it waits for.

    Attributes:
        order_id: of the order.
        status: where it is.
        read_at: when it was looked.
        left_out: incidents that are no longer kept; those between the first ones and the latest.
        entries: each after what caused it. Their times are of several clocks.
    """

    order_id: UUID
    status: Status
    read_at: datetime
    left_out: int
    entries: list[TimelineEntry]

    def without_internals(self) -> "Timeline":
        """Leave out what is only for operators: texts of errors, names and reasons of operators."""
        return msgspec.structs.replace(
            self,
            entries=[
                msgspec.structs.replace(
                    entry,
                    error_type=None,
                    error=None,
                    operator=None,
                    reason=None if entry.kind in _INCIDENTS else entry.reason,
                )
                for entry in self.entries
            ],
        )


#: What errors of ours mean, for whoever does not know the code.
_CAUSES: Final[Mapping[str | None, str]] = {
    "ProcessKilledError": "its process ended before the work did",
    "TimeLimitExceededError": "it took too long",
    "QueryCanceled": "the database took too long",
    "MessageRejectedError": "no worker took its message",
    "SimulatedFailureError": "a test order asked for it",
}


def entry_of(incident: Incident) -> TimelineEntry:
    """Tell of an incident."""
    return TimelineEntry(
        happened_at=incident.happened_at,
        kind=EntryKind(incident.kind),
        message=_message_of(incident),
        stage=incident.stage,
        sequence=incident.from_sequence,
        attempt=incident.attempt,
        due_at=incident.due_at,
        repeats=incident.repeats,
        repeated_at=incident.repeated_at,
        error_type=incident.error_type,
        error=incident.error,
        operator=incident.operator,
        reason=incident.reason,
        correlation_id=incident.correlation_id,
    )


def _message_of(incident: Incident) -> str:
    what = f"Stage {incident.stage}"
    cause = _CAUSES.get(incident.error_type, "its work raised an error")
    nth = f"attempt {incident.attempt} failed: {cause}" if incident.attempt else cause
    return {
        IncidentKind.FAILED: f"{what}: {nth}",
        IncidentKind.DELAYED: f"{what} is delayed: a server did not answer; no attempt is counted",
        IncidentKind.REARMED: f"{what} is due again: it was published and not worked on",
        IncidentKind.DEAD_LETTER: f"{what} is given up until somebody decides: {nth}",
        IncidentKind.REPLAYED: f"{what} is replayed",
        IncidentKind.EDITED: f"{what}: its payload is edited",
        IncidentKind.DISCARDED: f"{what} is discarded: it will not be done",
        IncidentKind.REPAIRED: f"{what} is promised again: its row was missing",
        IncidentKind.UNDO_PROMISED: f"{what}: its work is to be undone",
        IncidentKind.UNDONE: f"{what}: its work is undone",
    }[incident.kind]


def entry_awaited(row: OpenRow, *, read_at: datetime) -> TimelineEntry:
    """Tell what becomes of a row next."""
    what = f"stage {row.stage}" + (", whose work is to be undone" if row.undo else "")
    attempt: int | None = row.attempts + 1
    if row.begun_at:
        kind, attempt = EntryKind.IN_PROGRESS, row.attempts
        message = f"Being tried: {what}, attempt {attempt}"
    elif row.published_at:
        kind, message = EntryKind.IN_FLIGHT, f"Published, not yet worked on: {what}"
    elif row.available_at > read_at:
        kind, message = EntryKind.WAITING, f"Waiting for {what}"
    else:
        kind, message = EntryKind.DUE_NOW, f"Due, not yet published: {what}"
    return TimelineEntry(
        happened_at=read_at,
        kind=kind,
        message=message,
        stage=row.stage,
        sequence=row.from_sequence,
        attempt=attempt,
        due_at=row.available_at,
        correlation_id=row.correlation_id,
    )
