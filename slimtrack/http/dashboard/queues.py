"""The pages of queues and of the outbox."""

from collections.abc import Mapping
from typing import ClassVar

import falcon

from slimtrack.domain.operator_action import OperatorAction
from slimtrack.http.auth import Scopes
from slimtrack.http.dashboard.page import FOR_OPERATORS, Page, form_of, operator_of, render
from slimtrack.http.dashboard.reasons import read_reason
from slimtrack.use_cases.reconciling import LIMIT, Reconciling


class QueuesTopic:
    """How the queues stand.

    Args:
        reconciling: looks at them.
    """

    def __init__(self, reconciling: Reconciling) -> None:
        self._reconciling = reconciling

    def read(self, keys: frozenset[str]) -> Mapping[str, object]:
        """Return everything that the page shows."""
        return dict.fromkeys(keys, self._reconciling.look())


class Queues(Page):
    """`/dashboard/queues`: what waits where."""

    def __init__(self, reconciling: Reconciling) -> None:
        self._reconciling = reconciling

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show it."""
        render(
            req,
            resp,
            "queues/page.html",
            state=self._reconciling.look(),
            limit=LIMIT,
            rearmed=req.get_param_as_int("rearmed"),
        )


class Reconciliation(Page):
    """`/dashboard/queues/reconcile`: rows that were published and lost."""

    needs: ClassVar[Scopes] = FOR_OPERATORS

    def __init__(self, reconciling: Reconciling) -> None:
        self._reconciling = reconciling

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show how many there are."""
        self._show(req, resp, fault=None)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make them due again."""
        faults: dict[str, str] = {}
        reason = read_reason(req, form_of(req), faults)
        if faults:
            resp.status = falcon.HTTP_UNPROCESSABLE_ENTITY
            self._show(req, resp, fault=faults["reason"])
            return
        action = OperatorAction(operator=operator_of(req), reason=reason)
        rearmed = self._reconciling.rearm_lost(action=action)
        raise falcon.HTTPSeeOther(f"/dashboard/queues?rearmed={rearmed}")

    def _show(self, req: falcon.Request, resp: falcon.Response, *, fault: str | None) -> None:
        lost = self._reconciling.find_lost()
        render(
            req,
            resp,
            "queues/reconcile.html",
            lost=lost,
            total=sum(lost.values()),
            limit=LIMIT,
            fault=fault,
        )
