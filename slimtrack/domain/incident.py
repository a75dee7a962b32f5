"""Incidents: what happened to an outbox row, beside going through at once."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class IncidentKind(StrEnum):
    """What happened to a row."""

    #: An attempt failed; the row is due again.
    FAILED = "failed"
    #: A server was away; no attempt was counted, and the row is due again.
    DELAYED = "delayed"
    #: It was published and lost; the row is due again.
    REARMED = "rearmed"
    #: It was given up.
    DEAD_LETTER = "dead_letter"
    #: Somebody made it due again.
    REPLAYED = "replayed"
    #: Somebody changed its payload.
    EDITED = "edited"
    #: Somebody decided that it shall not be replayed.
    DISCARDED = "discarded"
    #: It was missing, and somebody made it again.
    REPAIRED = "repaired"
    #: Its order had moved on: what its work did is to be undone.
    UNDO_PROMISED = "undo_promised"
    #: What its work did is undone.
    UNDONE = "undone"


class Incident(msgspec.Struct, frozen=True):
    """One thing that happened to a row.

    The order of the fields is that of the query.

    Attributes:
        order_id: of which order it is.
        number: counts those of one order; a gap is what is not kept.
        kind: what happened.
        stage: of the row.
        from_sequence: the event that the row starts from.
        attempt: which one failed, counted from 1, and after a replay from 1 again.
        published_at: when the row had been published, as far as that is known.
        due_at: when the row is due again; None where it is not.
        error_type: what was raised.
        error: what it said.
        operator: who did it.
        reason: why, as the operator says.
        correlation_id: from which request the row follows.
        happened_at: when it happened.
        repeats: how often the same happened again, with nothing in between.
        repeated_at: when it did so last.
    """

    order_id: UUID
    number: int
    kind: IncidentKind
    stage: str
    from_sequence: int
    attempt: int | None
    published_at: datetime | None
    due_at: datetime | None
    error_type: str | None
    error: str | None
    operator: str | None
    reason: str | None
    correlation_id: str | None
    happened_at: datetime
    repeats: int
    repeated_at: datetime | None
