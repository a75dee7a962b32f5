"""One order: all that happened to it, and what can be done about it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Final, NamedTuple, TypeVar
from urllib.parse import quote
from uuid import UUID

import falcon
import msgspec

from slimtrack.domain.access import Scope
from slimtrack.domain.errors import (
    EventNotFoundError,
    HistoryFullError,
    SlimTrackError,
    StaleVersionError,
    TransitionNotAllowedError,
)
from slimtrack.domain.event import EventKind, OrderEvent
from slimtrack.domain.idempotency import Answer
from slimtrack.domain.operator_action import ActionName, OperatorAction
from slimtrack.domain.order import (
    MAX_LOCATION,
    MAX_MESSAGE,
    MAX_SOURCE,
    TRANSITIONS,
    WAY,
    Order,
    Status,
)
from slimtrack.domain.report import REPORTABLE
from slimtrack.http import problems, queries
from slimtrack.http.answers import answer_with_order
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.door import ORDERS
from slimtrack.http.dashboard.order_changes import CHANGES, Command, number_in
from slimtrack.http.dashboard.page import (
    Page,
    form_of,
    operator_of,
    principal_of,
    render,
    tenant_of,
)
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking

T = TypeVar("T")

#: Characters of a field, at most.
_MOST: Final[Mapping[str, int]] = {
    "message": MAX_MESSAGE,
    "reason": MAX_MESSAGE,
    "location": MAX_LOCATION,
    "source": MAX_SOURCE,
}
#: Events, and entries of the timeline, that are shown at once: the first and the latest.
_FIRST: Final = 20
_LATEST: Final = 180
_FIELDS: Final = ("status", "attempt", "sequence", "occurred_at", *_MOST)


class Step(NamedTuple):
    """A status on an order's way: ``done``, ``current`` or ``ahead``."""

    status: Status
    phase: str
    reached_at: datetime | None


class Refused(NamedTuple):
    """A change that was not made: its name, what its form said, and what is wrong, by field."""

    name: str
    given: Mapping[str, str]
    faults: Mapping[str, str]


class _OrderPage(Page):
    """What a page of one order shows.

    Args:
        tracking: the use cases.
        has_tracking_page: whether there is one for whoever has the order's tracking code.
    """

    system: ClassVar[bool] = False

    def __init__(self, tracking: Tracking, *, has_tracking_page: bool) -> None:
        self._tracking = tracking
        self._has_tracking_page = has_tracking_page

    def _show(
        self, req: falcon.Request, resp: falcon.Response, order: str, refused: Refused | None = None
    ) -> None:
        principal, tenant_id = principal_of(req), tenant_of(req)
        order_id = self._id_of(req, order)
        # First of all: what happens from now on leads to another look.
        revision = self._tracking.revisions([order_id]).get(order_id)
        found = self._tracking.get(order_id, tenant_id=tenant_id)
        events = self._tracking.history(order_id, tenant_id=tenant_id)
        told = self._tracking.timeline(order_id, tenant_id=tenant_id)
        raw = msgspec.json.encode({"order": found, "events": events})
        timeline = told if Scope.OPERATOR in principal.scopes else told.without_internals()
        done = req.get_param("done")
        render(
            req,
            resp,
            "orders/order.html",
            order=found,
            owner=self._tracking.owners([order_id]).get(order_id) if tenant_id is None else None,
            has_tracking_page=self._has_tracking_page,
            revision=revision,
            steps=list(steps_of(found, events)),
            timeline=timeline,
            entries=_shown(timeline.entries),
            events=events,
            shown_events=_shown(events),
            raw=msgspec.json.format(raw).decode(),
            changes=[
                name
                for name, change in CHANGES.items()
                if change.needs(principal) in principal.scopes and change.possible(found)
            ],
            done=done if done in CHANGES else None,
            refused=refused or Refused("", {}, {}),
            reportable=sorted(REPORTABLE, key=list(Status).index),
            following=next((each for each in WAY if each in TRANSITIONS[found.status]), None),
            most=_MOST,
            by=operator_of(req),
        )

    def _id_of(self, req: falcon.Request, order: str) -> UUID:
        wanted = queries.read_order(order)
        if isinstance(wanted, UUID):
            return wanted
        return self._tracking.get(wanted, tenant_id=tenant_of(req)).id


class OrderPage(_OrderPage):
    """`/dashboard/orders/{order}`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Show the order."""
        self._show(req, resp, order)


class OrderChange(_OrderPage):
    """`/dashboard/orders/{order}/…`: a change, for those whom the API lets make it.

    Args:
        tracking: the use cases.
        name: of the change.
        has_tracking_page: as above.
    """

    needs: ClassVar[Scopes] = {"GET": Scope.ORDERS_READ, "POST": Scope.ORDERS_READ}

    def __init__(self, tracking: Tracking, name: ActionName, *, has_tracking_page: bool) -> None:
        super().__init__(tracking, has_tracking_page=has_tracking_page)
        self._name = name
        self._change = CHANGES[name]

    def on_get(self, _req: falcon.Request, _resp: falcon.Response, order: str) -> None:
        """Lead back to the order: what was sent is not sent again."""
        raise falcon.HTTPSeeOther(f"{ORDERS}/{quote(order, safe='')}")

    def on_post(self, req: falcon.Request, resp: falcon.Response, order: str) -> None:
        """Make the change, or say why not beside what was given."""
        principal, form = principal_of(req), form_of(req)
        needed = self._change.needs(principal)
        if needed not in principal.scopes:
            raise problems.forbidden(needed)
        version = number_in(form, "version")
        target = Target(
            order=self._id_of(req, order),
            tenant_id=tenant_of(req),
            version=version if isinstance(version, int) else None,
            correlation_id=req.context.correlation_id,
        )
        try:
            command = self._change.read(form)
            action = OperatorAction(
                operator=operator_of(req), reason=form.get("reason") or form.get("message")
            )
            self._tracking.execute(lambda changes: self._make(changes, command, target, action))
        except (problems.Problem, *_REFUSALS) as error:
            problem = problems.problem_of(error) if isinstance(error, SlimTrackError) else error
            assert problem  # noqa: S101 - every refusal is the caller's to know
            resp.status = problem.status
            given = {name: form.get(name) for name in _FIELDS}
            self._show(req, resp, order, Refused(self._name, given, _faults_of(problem)))
            return
        raise falcon.HTTPSeeOther(f"{ORDERS}/{target.order}?done={self._name}")

    def _make(
        self, changes: Changes, command: Command, target: Target, action: OperatorAction
    ) -> Answer:
        with changes.transaction():
            order = command(changes, target)
            if target.tenant_id is None:  # an operator's; others change what is theirs
                changes.record(order, name=self._name, action=action)
        return answer_with_order(order)


#: What an order has against a change.
_REFUSALS: Final = (
    EventNotFoundError,
    HistoryFullError,
    StaleVersionError,
    TransitionNotAllowedError,
)


def _faults_of(problem: problems.Problem) -> dict[str, str]:
    """Return what is wrong, by field; under no name what is of no field."""
    faults = problem.members.get("errors")
    if faults is None:
        return {"": problem.description or ""}
    return {fault["field"]: fault["message"] for fault in faults}


def _shown(all_of_them: Sequence[T]) -> Sequence[T]:
    """Return the first and the latest: an order may have a thousand events."""
    if len(all_of_them) <= _FIRST + _LATEST:
        return all_of_them
    return [*all_of_them[:_FIRST], *all_of_them[-_LATEST:]]


def steps_of(order: Order, events: Sequence[OrderEvent]) -> Iterator[Step]:
    """Yield the way of an order; one that has left it has no steps ahead."""
    reached = {
        event.status: event.recorded_at for event in events if event.kind is EventKind.TRANSITION
    }
    place = WAY.index(order.status) if order.status in WAY else None
    for number, status in enumerate(WAY):
        if place is not None and number > place:
            yield Step(status, "ahead", None)
        elif place is not None or status in reached:
            phase = "current" if number == place else "done"
            yield Step(status, phase, reached.get(status))
    if place is None:
        yield Step(order.status, "current", reached.get(order.status))
