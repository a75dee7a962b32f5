"""Looking at dead letters."""

import re
import secrets
from collections.abc import Mapping
from typing import Final

import falcon
import msgspec

from slimtrack.domain.order import STAGES
from slimtrack.http import problems
from slimtrack.http.dashboard.forms import Form
from slimtrack.http.dashboard.page import Page, render
from slimtrack.http.dashboard.selections import read_filters
from slimtrack.use_cases.dead_letters import DeadLetterNotFoundError, DeadLetters

#: Dead letters of a page.
_SIZE: Final = 50
#: Bytes of a message that are shown.
_MOST_SHOWN: Final = 20_000
_LARGEST: Final = 2**63 - 1
_OPERATION: Final = re.compile(r"dashboard-[A-Za-z0-9_-]{16}")


class DeadLetterList(Page):
    """`/dashboard/dead-letters`: by cause, and one by one."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show those that the address asks for."""
        wanted = read_filters(req.get_param)
        before = req.get_param_as_int("before", min_value=1, max_value=_LARGEST)
        page = self._dead_letters.look(wanted.selection, before=before, size=_SIZE)
        render(
            req,
            resp,
            "dead_letters/list.html",
            wanted=wanted,
            page=page,
            stages=STAGES,
            is_first=before is None,
        )


class DeadLetterItem(Page):
    """`/dashboard/dead-letters/{letter}`: all that is known of one."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def on_get(self, req: falcon.Request, resp: falcon.Response, letter: int) -> None:
        """Show it."""
        show_letter(req, resp, self._dead_letters, letter)


def new_operation() -> str:
    """Return a name for what a form does, so that sending it again does nothing."""
    return f"dashboard-{secrets.token_urlsafe(12)}"


def operation_in(form: Form) -> str | None:
    """Return the name that a form has for what it does; None if it has none of ours."""
    operation = form.get("operation")
    return operation if _OPERATION.fullmatch(operation) else None


def show_letter(
    req: falcon.Request,
    resp: falcon.Response,
    dead_letters: DeadLetters,
    letter_id: int,
    *,
    given: Mapping[str, str] | None = None,
    faults: Mapping[str, str] | None = None,
) -> None:
    """Answer with the page of one dead letter, perhaps with what was wrong with a form of it.

    Raises:
        Problem: there is none of this id.
    """
    try:
        letter = dead_letters.get(letter_id)
    except DeadLetterNotFoundError as error:
        raise problems.path_not_found() from error
    payload = msgspec.json.format(msgspec.json.encode(letter.payload)).decode()
    body = letter.body
    render(
        req,
        resp,
        "dead_letters/item.html",
        letter=letter,
        incidents=dead_letters.incidents(letter),
        operation=new_operation(),
        payload=payload,
        given=given or {"payload": payload, "reason": ""},
        faults=faults or {},
        body=None if body is None else body[:_MOST_SHOWN].decode("utf-8", "backslashreplace"),
        is_cut=body is not None and len(body) > _MOST_SHOWN,
    )
