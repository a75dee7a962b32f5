"""Dead letters: what was given up, kept until a person decides."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from slimtrack.domain.order import Status


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An outbox row that was given up, or (with a ``body``) a message that names none."""

    id: int
    order_id: UUID | None
    stage: str | None
    from_sequence: int | None
    outbox_id: int | None
    actor: str
    queue: str
    error_type: str
    error: str
    traceback: str
    fingerprint: str
    attempts: int
    publications: int
    correlation_id: str | None
    payload: dict[str, Any]
    undo: bool
    body: bytes | None
    created_at: datetime | None
    first_failed_at: datetime
    died_at: datetime
    discarded_at: datetime | None
    discard_reason: str | None


class DeadLetterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of one cause; ``error`` is what the latest of them says."""

    fingerprint: str
    stage: str | None
    error_type: str
    error: str
    count: int
    first_died_at: datetime
    last_died_at: datetime


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which dead letters are meant: those for which everything holds that is given.

    Attributes:
        ids: one of these.
        order_id: of this order.
        stage: of this stage.
        error: with this text in the error or its type, in any case.
        fingerprint: of this group.
        older_than: given up at least so many seconds ago.
        newer_than: given up at most so many seconds ago.
        discarded: those that were discarded, instead of those that were not.
    """

    ids: tuple[int, ...] | None = None
    order_id: UUID | None = None
    stage: Status | None = None
    error: str | None = None
    fingerprint: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    discarded: bool = False


class OperatorAction(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator does to dead letters, and why.

    ``operation`` names this one action, so that a repeat of it does nothing.
    """

    operator: str
    reason: str = ""
    operation: str | None = None
