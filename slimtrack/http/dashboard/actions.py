"""What operators did."""

from typing import Any, Final

import falcon

from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.page import Page, render
from slimtrack.use_cases.actions import Actions

_PATH: Final = "/dashboard/actions"
#: Actions of a page.
_SIZE: Final = 50
_LARGEST: Final = 2**63 - 1


class ActionsPage(Page):
    """`/dashboard/actions`: who did what, when and why."""

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the latest, or those before."""
        before = req.get_param_as_int("before", min_value=1, max_value=_LARGEST)
        found = self._actions.list(before=before, limit=_SIZE + 1)
        render(
            req,
            resp,
            "actions/page.html",
            actions=found[:_SIZE],
            next_before=found[_SIZE - 1].id if len(found) > _SIZE else None,
        )


def add_actions(app: falcon.App[Any, Any], door: Door, *, actions: Actions) -> None:
    """Add the page to an app."""
    page = ActionsPage(actions)
    app.add_route(_PATH, page)
    door.list_page("actions", _PATH, page)
