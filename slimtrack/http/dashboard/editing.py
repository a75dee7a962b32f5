"""Editing dead letters."""

from contextlib import suppress
from typing import Any, ClassVar, Final

import falcon
import msgspec

from slimtrack.domain.access import Scope
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.http import problems
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.dead_letters import operation_in, show_letter
from slimtrack.http.dashboard.forms import Form
from slimtrack.http.dashboard.page import Page, form_of, operator_of, render, say
from slimtrack.http.dashboard.reasons import read_reason
from slimtrack.use_cases.dead_letters import (
    DeadLetterNotFoundError,
    DeadLetters,
    NotARowError,
    OperationRepeatedError,
    OperationReusedError,
)

#: What the name of a replay ends with that follows an edit.
_AND_REPLAYED: Final = "-replay"
#: Under which name the faults have what no field is to blame for.
_CONFLICT: Final = "conflict"


class DeadLetterEditing(Page):
    """`/dashboard/dead-letters/{letter}/edit`: other payload, and perhaps another try."""

    scopes: ClassVar[Scopes] = {"POST": None}
    needs: ClassVar[Scopes] = {"POST": Scope.OPERATOR}

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def on_post(self, req: falcon.Request, resp: falcon.Response, letter: int) -> None:
        """Replace the payload; replay the row if that was asked for as well."""
        form = form_of(req)
        faults: dict[str, str] = {}
        payload = _payload(req, form, faults)
        reason = read_reason(req, form, faults)
        operation = operation_in(form)
        if operation is None:
            raise problems.malformed_body("The form cannot be read. Go back, and choose again.")
        action = OperatorAction(operator=operator_of(req), reason=reason, operation=operation)
        if not faults:
            self._store(req, letter, payload, action, faults)
        if faults:
            self._show_again(req, resp, letter, faults)
            return
        if form.get("then") != "replay":
            raise falcon.HTTPSeeOther(f"/dashboard/dead-letters/{letter}")
        operation += _AND_REPLAYED
        action = msgspec.structs.replace(action, operation=operation, expected=1)
        with suppress(OperationRepeatedError):
            self._dead_letters.replay(Selection(ids=(letter,)), action=action)
        raise falcon.HTTPSeeOther(f"/dashboard/dead-letters/operations/{operation}")

    def _store(
        self,
        req: falcon.Request,
        letter: int,
        payload: dict[str, Any],
        action: OperatorAction,
        faults: dict[str, str],
    ) -> None:
        """Store a payload, unless the form has stored another before, or somebody did since."""
        try:
            self._dead_letters.edit(letter, payload=payload, action=action)
        except DeadLetterNotFoundError as error:
            raise problems.path_not_found() from error
        except NotARowError as error:
            faults["payload"] = str(error)
        except OperationReusedError:
            faults[_CONFLICT] = say(req, "dead_letters.payload_differs")
        except OperationRepeatedError:
            with suppress(DeadLetterNotFoundError):  # it was replayed as well
                if self._dead_letters.get(letter).payload != payload:
                    faults[_CONFLICT] = say(req, "dead_letters.payload_differs")

    def _show_again(
        self, req: falcon.Request, resp: falcon.Response, letter: int, faults: dict[str, str]
    ) -> None:
        """Show the form with what it said, under a new name."""
        form = form_of(req)
        given = {name: form.get(name) for name in ("payload", "reason")}
        resp.status = (
            falcon.HTTP_CONFLICT if _CONFLICT in faults else falcon.HTTP_UNPROCESSABLE_ENTITY
        )
        try:
            show_letter(req, resp, self._dead_letters, letter, given=given, faults=faults)
        except problems.Problem:
            if _CONFLICT not in faults:
                raise
            render(req, resp, "dead_letters/gone.html")


def _payload(req: falcon.Request, form: Form, faults: dict[str, str]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(form.get("payload"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        faults["payload"] = say(req, "dead_letters.payload_wrong", why=str(error))
        return {}
