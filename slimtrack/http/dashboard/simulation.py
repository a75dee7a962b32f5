"""The page on which an operator makes something happen; only where a stack is for development."""

from typing import ClassVar

import falcon

from slimtrack.domain.access import Scope
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.outcome import Outcome
from slimtrack.http import problems
from slimtrack.http.auth import Scopes
from slimtrack.http.correlation import correlation_id_of
from slimtrack.http.dashboard.page import (
    FOR_OPERATORS,
    Page,
    form_of,
    operator_of,
    principal_of,
    render,
    say,
)
from slimtrack.use_cases.operating import Operating, ResourceNotFoundError
from slimtrack.use_cases.simulating import MOST, Simulating


class Simulation(Page):
    """`/dashboard/simulate`: places orders."""

    needs: ClassVar[Scopes] = FOR_OPERATORS

    def __init__(self, simulating: Simulating, *, operating: Operating) -> None:
        self._simulating = simulating
        self._operating = operating

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the forms."""
        self._show(req, resp)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Place orders, and say how many."""
        form = form_of(req)
        count, outcome = form.get("count"), form.get("outcome")
        usable = count.isascii() and count.isdecimal() and len(count) <= len(str(MOST))
        if not usable or not 1 <= int(count) <= MOST:
            resp.status = falcon.HTTP_UNPROCESSABLE_ENTITY
            self._show(req, resp, fault=say(req, "simulate.count_wrong", most=MOST))
            return
        placed = self._simulating.place(
            int(count),
            outcome=Outcome(outcome) if outcome in list(Outcome) else None,
            principal=principal_of(req),
            action=OperatorAction(operator=operator_of(req), reason="simulated"),
            correlation_id=correlation_id_of(req),
        )
        self._show(req, resp, placed=[each.tracking_code for each in placed])

    def _show(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        fault: str | None = None,
        placed: list[str] | None = None,
    ) -> None:
        render(
            req,
            resp,
            "simulate/page.html",
            outcomes=list(Outcome),
            most=MOST,
            fault=fault,
            placed=placed,
            processes=[each for each in self._operating.resources() if each.can_stop],
        )


class Stop(Page):
    """`/dashboard/simulate/stop`: kills a process, which the stack starts again."""

    scopes: ClassVar[Scopes] = {"POST": None}
    needs: ClassVar[Scopes] = {"POST": Scope.OPERATOR}

    def __init__(self, operating: Operating) -> None:
        self._operating = operating

    def on_post(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Kill it, and lead to where it can be seen to come back."""
        name = form_of(req).get("name")
        action = OperatorAction(operator=operator_of(req), reason="simulated")
        try:
            self._operating.stop(name, action=action)
        except ResourceNotFoundError as error:
            raise problems.path_not_found() from error
        raise falcon.HTTPSeeOther(f"/dashboard/resources/{name}")
