"""Deciding about dead letters: replay or discard them."""

from contextlib import suppress
from typing import ClassVar, Final

import falcon
import msgspec

from slimtrack.domain.access import Scope
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.http import problems
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.dead_letters import new_operation, operation_in
from slimtrack.http.dashboard.forms import Form
from slimtrack.http.dashboard.page import Page, form_of, operator_of, render, say
from slimtrack.http.dashboard.reasons import read_reason
from slimtrack.http.dashboard.selections import Filters, read_filters
from slimtrack.use_cases.dead_letters import (
    DeadLetters,
    OperationRepeatedError,
    OperationReusedError,
)

_ACTIONS: Final = ("replay", "discard")
#: Dead letters beyond which a number has to be typed, and a rate is proposed.
_MANY: Final = 100
_PROPOSED_RATE: Final = "100"
_EXAMPLES: Final = 5
_MAX_RATE: Final = 100_000.0


class _Decision(Page):
    """A form that was sent about some dead letters."""

    scopes: ClassVar[Scopes] = {"POST": None}
    needs: ClassVar[Scopes] = {"POST": Scope.OPERATOR}

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def preview(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        form: Form,
        *,
        faults: dict[str, str] | None = None,
        is_new: bool = False,
    ) -> None:
        """Show what would be done, to how many, and ask why; ``is_new`` if it gets a new name."""
        action, wanted, selection = self.read(form)
        page = self._dead_letters.look(selection, before=None, size=_EXAMPLES)
        # What is stored from now on is not meant, nor is more than was counted.
        up_to = page.last or 0
        rows = page.rows if action == "replay" else page.count
        is_many = rows > _MANY
        given = {name: form.get(name) for name in ("reason", "rate", "typed")}
        operation = operation_in(form)
        if operation is None:
            given["rate"] = _PROPOSED_RATE if is_many else ""
        if operation is None or is_new:
            operation = new_operation()
        render(
            req,
            resp,
            "dead_letters/preview.html",
            action=action,
            wanted=wanted,
            ids=form.get_all("id"),
            page=page,
            rows=rows,
            is_many=is_many,
            up_to=up_to,
            operation=operation,
            given=given,
            faults=faults or {},
        )

    def _count(self, action: str, selection: Selection) -> int:
        if action == "replay":
            return self._dead_letters.count_rows(selection)
        return self._dead_letters.count(selection)

    @staticmethod
    def read(form: Form) -> tuple[str, Filters, Selection]:
        """Return what is to be done, and to which.

        Raises:
            Problem: it cannot be understood; nothing is done to more than was meant.
        """
        action = form.get("action")
        wanted = read_filters(form.get)
        ids, up_to = form.get_all("id"), form.get("up_to")
        if action not in _ACTIONS or wanted.wrong or not all(map(_is_id, [*ids, up_to or "0"])):
            raise problems.malformed_body("The form cannot be read. Go back, and choose again.")
        if form.get("which") == "selected" and not ids:
            raise problems.malformed_body("No dead letter is selected. Go back, and choose some.")
        selection = wanted.selection
        if ids:
            selection = msgspec.structs.replace(selection, ids=tuple(map(int, ids)))
        if up_to:
            selection = msgspec.structs.replace(selection, up_to=int(up_to))
        return action, wanted, selection


class DecisionPreview(_Decision):
    """`/dashboard/dead-letters/preview`."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show what would be done."""
        self.preview(req, resp, form_of(req))


class DecisionMaking(_Decision):
    """`/dashboard/dead-letters/decide`."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Do it, and lead to what became of it; a form that is sent again does nothing more."""
        form = form_of(req)
        name, _, selection = self.read(form)
        operation, expected = operation_in(form), form.get("expected")
        if operation is None or not (form.get("up_to") and _is_id(expected)):
            raise problems.malformed_body("The form cannot be read. Go back, and choose again.")
        faults: dict[str, str] = {}
        reason = read_reason(req, form, faults)
        rate = self._rate(req, form, faults) if name == "replay" else None
        count = self._count(name, selection)
        if count > int(expected):  # they have grown older, and match by now
            faults["count"] = say(req, "dead_letters.more_by_now", count=expected)
        elif count > _MANY and form.get("typed") != expected:
            faults["typed"] = say(req, "dead_letters.typed_wrong", count=expected)
        if faults:
            resp.status = falcon.HTTP_UNPROCESSABLE_ENTITY
            self.preview(req, resp, form, faults=faults)
            return
        action = OperatorAction(
            operator=operator_of(req),
            reason=reason,
            operation=operation,
            expected=int(expected),
        )
        try:
            with suppress(OperationRepeatedError):  # it was done when this form was sent first
                if name == "replay":
                    self._dead_letters.replay(selection, action=action, rate=rate)
                else:
                    self._dead_letters.discard(selection, action=action)
        except OperationReusedError:
            resp.status = falcon.HTTP_CONFLICT
            faults["count"] = say(req, "dead_letters.decision_differs")
            self.preview(req, resp, form, faults=faults, is_new=True)
            return
        raise falcon.HTTPSeeOther(f"/dashboard/dead-letters/operations/{operation}")

    @staticmethod
    def _rate(req: falcon.Request, form: Form, faults: dict[str, str]) -> float | None:
        text = form.get("rate")
        if not text:
            return None
        try:
            rate = float(text)
        except ValueError:
            rate = 0.0
        if not 0.01 <= rate <= _MAX_RATE:
            faults["rate"] = say(req, "dead_letters.rate_wrong")
        return rate


class DecisionResult(Page):
    """`/dashboard/dead-letters/operations/{operation}`: what was done, and what became of it."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def on_get(self, req: falcon.Request, resp: falcon.Response, operation: str) -> None:
        """Show it; the page asks again while something is under way."""
        found = self._dead_letters.find_action(operation)
        if found is None:
            raise problems.path_not_found()
        action, progress = found
        part = "progress" if req.get_header("HX-Request") else "operation"
        render(req, resp, f"dead_letters/{part}.html", action=action, progress=progress)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19
