"""What operators do, whatever they do it to: it is kept who did it, when and why."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from slimtrack.domain.rules import clean_text

#: Characters of a reason, at most.
MAX_REASON: Final = 500


class ActionName(StrEnum):
    """What can be done."""

    #: With dead letters.
    REPLAY = "replay"
    EDIT = "edit"
    DISCARD = "discard"
    #: With rows that are missing, or were lost.
    REPAIR = "repair"
    RECONCILE = "reconcile"
    #: With servers and processes.
    REVEAL = "reveal"
    STOP = "stop"
    SIMULATE = "simulate"
    #: With one order.
    REPORT = "report"
    CORRECT = "correct"
    CANCEL = "cancel"


class OperatorAction(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, and why.

    ``operation`` names this one action, so that a repeat of it does nothing; ``expected`` is how
    many the operator was told it would be done to.
    """

    operator: str
    reason: str = ""
    operation: str | None = None
    expected: int | None = None


class RecordedAction(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did, to what, and how many dead letters, rows or orders that were.

    ``action`` may be one that only a newer version knows. ``expected`` is how many the operator was
    told it would be, where somebody was told.
    """

    id: int
    action: str
    operation: str | None
    operator: str
    reason: str
    selection: dict[str, Any]
    affected: int
    expected: int | None
    acted_at: datetime

    @property
    def gone(self) -> int:
        """How many somebody else had moved before."""
        return max(0, (self.expected or 0) - self.affected)

    @property
    def order_id(self) -> str | None:
        """The one order that was meant; None where it was not one."""
        return self.selection.get("order_id")

    @property
    def others(self) -> Mapping[str, Any]:
        """What is known of what was meant beside that."""
        return {name: value for name, value in self.selection.items() if name != "order_id"}


def clean_reason(text: str) -> str:
    """Return a reason without white space around it.

    Raises:
        FieldError: it is empty, too long or has characters that do not belong into it.
    """
    return clean_text("reason", text, most=MAX_REASON)
