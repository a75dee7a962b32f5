"""Puts the pages of the dashboard together."""

from typing import Any

import falcon

from slimtrack.http import problems
from slimtrack.http.auth import PUBLIC
from slimtrack.http.dashboard.actions import add_actions
from slimtrack.http.dashboard.dead_letters import DeadLetterItem, DeadLetterList
from slimtrack.http.dashboard.decisions import DecisionMaking, DecisionPreview, DecisionResult
from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.editing import DeadLetterEditing
from slimtrack.http.dashboard.operations import Operations, add_operations
from slimtrack.http.dashboard.orders import add_orders
from slimtrack.http.dashboard.overview import add_overview
from slimtrack.http.dashboard.page import Page
from slimtrack.http.dashboard.sign_in import SignIn, SignOut
from slimtrack.http.live import Broadcaster
from slimtrack.use_cases.actions import Actions
from slimtrack.use_cases.dead_letters import DeadLetters
from slimtrack.use_cases.tracking import Tracking
from slimtrack.use_cases.watching import Watching


class Entrance:
    """`/`: leads to the dashboard."""

    scopes = PUBLIC
    media_types = (falcon.MEDIA_HTML,)

    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        """Lead there."""
        raise falcon.HTTPSeeOther("/dashboard")


class _Nowhere(Page):
    """An address of the dashboard at which there is nothing."""


def add_dashboard(
    app: falcon.App[Any, Any],
    *,
    door: Door,
    sign_in: SignIn,
    sign_out: SignOut,
    watching: Watching,
    tracking: Tracking,
    operations: Operations,
    broadcaster: Broadcaster,
    dead_letters: DeadLetters,
    has_tracking_page: bool,
    actions: Actions,
) -> None:
    """Add the pages to an app.

    Args:
        app: the app.
        door: decides who may visit them.
        sign_in: begins sessions.
        sign_out: ends them.
        watching: looks at how the system fares.
        tracking: the use cases of orders.
        operations: the use cases of those who run the system.
        broadcaster: tells pages what has changed.
        dead_letters: the use cases of dead letters.
        has_tracking_page: whether there is one for whoever has an order's tracking code.
        actions: what operators did.
    """
    nowhere = _Nowhere()

    def show_nothing(req: falcon.Request, resp: falcon.Response, **_: str) -> None:
        door.admit(req, resp, nowhere)
        raise problems.path_not_found()

    app.add_middleware(door)
    app.add_route("/", Entrance())
    app.add_route("/dashboard/sign-in", sign_in)
    app.add_route("/dashboard/sign-out", sign_out)
    add_overview(app, door, watching=watching, broadcaster=broadcaster)
    add_orders(
        app,
        door,
        tracking=tracking,
        broadcaster=broadcaster,
        has_tracking_page=has_tracking_page,
    )
    _add_dead_letters(app, door, dead_letters)
    add_operations(app, door, operations=operations, broadcaster=broadcaster)
    add_actions(app, door, actions=actions)
    app.add_sink(show_nothing, "/dashboard/")


def _add_dead_letters(app: falcon.App[Any, Any], door: Door, dead_letters: DeadLetters) -> None:
    path = "/dashboard/dead-letters"
    pages: dict[str, Page] = {
        "": (found := DeadLetterList(dead_letters)),
        "/preview": DecisionPreview(dead_letters),
        "/decide": DecisionMaking(dead_letters),
        "/operations/{operation}": DecisionResult(dead_letters),
        "/{letter:int(min=1)}": DeadLetterItem(dead_letters),
        "/{letter:int(min=1)}/edit": DeadLetterEditing(dead_letters),
    }
    for part, page in pages.items():
        app.add_route(f"{path}{part}", page)
    door.list_page("dead_letters", path, found)
