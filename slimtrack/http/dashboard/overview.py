"""`/dashboard`: how the system fares, and what needs somebody."""

from collections.abc import Mapping
from typing import Any, Final

import falcon

from slimtrack.domain.order import WAY, Status
from slimtrack.domain.overview import Overview
from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.live_page import LivePage
from slimtrack.http.dashboard.page import Page, render
from slimtrack.http.live import Broadcaster
from slimtrack.use_cases.watching import Watching

#: Seconds of the samples that are drawn.
_DRAWN: Final = 3_600.0
#: Where orders end, or stay, that are not delivered.
_UNHAPPY: Final = (Status.DELIVERY_FAILED, Status.RETURNED, Status.CANCELLED, Status.LOST)


class OverviewTopic:
    """What all who watch the overview are sent: the same for everybody."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    def read(self, keys: frozenset[str]) -> Mapping[str, Overview]:
        """Look once."""
        return dict.fromkeys(keys, self._watching.look())


class OverviewPage(Page):
    """`/dashboard`: the page, which the stream fills in."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the page; it asks the database for nothing."""
        render(req, resp, "overview/page.html", journey=WAY, unhappy=_UNHAPPY, statuses=Status)


class OverviewSamples(Page):
    """`/dashboard/overview/samples`: the last hour."""

    media_types = (falcon.MEDIA_JSON,)

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Return its samples, oldest first."""
        resp.media = self._watching.samples(seconds=_DRAWN)


def add_overview(
    app: falcon.App[Any, Any], door: Door, *, watching: Watching, broadcaster: Broadcaster
) -> None:
    """Add the page, and what it asks for."""
    page = OverviewPage()
    door.list_page("overview", "/dashboard", page)
    app.add_route("/dashboard", page)
    app.add_route("/dashboard/overview/samples", OverviewSamples(watching))
    live = LivePage(broadcaster, door, topic=OverviewTopic(watching))
    app.add_route("/dashboard/live/overview", live)
