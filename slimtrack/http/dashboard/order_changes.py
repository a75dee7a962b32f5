"""What people can do about an order; what a form may say is what the API's bodies may say."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from slimtrack.domain.access import Principal, Scope
from slimtrack.domain.operator_action import ActionName
from slimtrack.domain.order import DEFAULT_TENANT, TRANSITIONS, Order, Status
from slimtrack.http import schemas
from slimtrack.http.dashboard.forms import Form
from slimtrack.use_cases.changing import Changes, Target

#: Carries out a change that a form has described.
Command = Callable[[Changes, Target], Order]


class Change(NamedTuple):
    """A change.

    Attributes:
        scope: the scope that the API asks for it.
        read: what a form describes; raises a ``Problem`` where that is not in order.
        possible: whether an order is where it may succeed.
    """

    scope: Scope
    read: Callable[[Form], Command]
    possible: Callable[[Order], bool] = lambda _: True

    def needs(self, principal: Principal) -> Scope:
        """Return the scope that somebody needs for it: among everybody's orders, the operator's."""
        return Scope.OPERATOR if principal.tenant_id == DEFAULT_TENANT else self.scope


def _read_cancellation(form: Form) -> Command:
    reason = schemas.read_cancellation(_body(reason=form.get("reason")))
    return lambda changes, target: changes.cancel(target, reason=reason)


def _read_report(form: Form) -> Command:
    texts = {name: form.get(name) for name in ("status", "message", "reason", "location", "source")}
    report = schemas.read_report(
        _body(
            **texts,
            attempt=number_in(form, "attempt"),
            occurred_at=with_zone(form.get("occurred_at")),
        )
    )
    return lambda changes, target: changes.report(target, report)


def _read_correction(form: Form) -> Command:
    sequence, message, source = schemas.read_correction(
        _body(
            sequence=number_in(form, "sequence"),
            message=form.get("message"),
            source=form.get("source"),
        )
    )
    return lambda changes, target: changes.correct(
        target, sequence=sequence, message=message, source=source
    )


#: By name, which is the end of its address.
CHANGES: Final[Mapping[ActionName, Change]] = {
    ActionName.REPORT: Change(Scope.REPORTS_WRITE, _read_report),
    ActionName.CORRECT: Change(Scope.OPERATOR, _read_correction),
    ActionName.CANCEL: Change(
        Scope.ORDERS_WRITE,
        _read_cancellation,
        possible=lambda order: Status.CANCELLED in TRANSITIONS[order.status],
    ),
}

_WITHOUT_ZONE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)


def with_zone(text: str) -> str:
    """Return a time with its zone; one that a browser without scripts sends has none, nor seconds.

    The form says that it is meant in UTC then.
    """
    found = _WITHOUT_ZONE.fullmatch(text)
    return text if not found else f"{text}Z" if found[1] else f"{text}:00Z"


def number_in(form: Form, name: str) -> int | str:
    """Return the number in a field, or what else is there."""
    text = form.get(name)
    # int() also takes signs, spaces, underscores and the digits of other scripts.
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text


def _body(**fields: int | str) -> bytes:
    """Return the body that says what a form says; a field that was left empty says nothing."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value != ""})
