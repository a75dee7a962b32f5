"""Dead letters: what was given up, kept until a person decides."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
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


class StoredDeadLetter(NamedTuple):
    """What a row became that was given up just now."""

    id: int
    outbox_id: int
    order_id: UUID
    attempts: int
    correlation_id: str | None


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
        error: with this text in the error, in any case.
        error_type: of this type.
        fingerprint: of this group.
        up_to: none that was stored after this one.
        older_than: given up at least so many seconds ago.
        newer_than: given up at most so many seconds ago.
        discarded: those that were discarded, instead of those that were not.
    """

    ids: tuple[int, ...] | None = None
    order_id: UUID | None = None
    stage: Status | None = None
    error: str | None = None
    error_type: str | None = None
    fingerprint: str | None = None
    up_to: int | None = None
    older_than: float | None = None
    newer_than: float | None = None
    discarded: bool = False


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the dead letters that are meant, the latest first, and how many there are in all.

    Attributes:
        letters: those of the page.
        groups: by cause, of all that are meant.
        count: how many are meant.
        is_more: whether there are more than were counted, which are the oldest.
        last: the latest of those that were counted; None where there is none.
        next_before: where the next page begins; None on the last.
    """

    letters: Sequence[DeadLetter]
    groups: Sequence[DeadLetterGroup]
    count: int
    is_more: bool
    last: int | None
    next_before: int | None

    @property
    def rows(self) -> int:
        """How many of those that were counted could be replayed: messages have no stage."""
        return sum(group.count for group in self.groups if group.stage)


class ReplayProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows of a replay: through their stage, dead again, or neither yet.

    Attributes:
        replayed: those that are still known of.
        through: those through their stage.
        delivered: those of them whose orders are delivered.
        dead: those that were given up again.
    """

    replayed: int
    through: int
    delivered: int
    dead: int

    @property
    def waiting(self) -> int:
        """Those that are neither yet."""
        return self.replayed - self.through - self.dead
