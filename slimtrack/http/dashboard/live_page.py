"""What pages of the dashboard follow."""

from collections.abc import Callable, Sequence

import falcon

from slimtrack.http.dashboard.door import Door
from slimtrack.http.dashboard.page import Page, principal_of, visit_of
from slimtrack.http.live import MEDIA_TYPE, Broadcaster, Topic


class LivePage(Page):
    """`/dashboard/live/…`: a topic, for as long as the visitor's key is valid.

    Args:
        broadcaster: serves the streams.
        door: knows whether a session is still good.
        topic: what is followed.
        key: which of it a request wants.
    """

    media_types: Sequence[str] = (MEDIA_TYPE,)

    def __init__(
        self,
        broadcaster: Broadcaster,
        door: Door,
        *,
        topic: Topic,
        key: Callable[[falcon.Request], str] = lambda _: "",
    ) -> None:
        self._broadcaster = broadcaster
        self._door = door
        self._topic = topic
        self._key = key

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell what there is now, and whenever that changes."""
        session = visit_of(req).session
        self._broadcaster.attach(
            req,
            resp,
            topic=self._topic,
            owner=principal_of(req).key_id,
            key=self._key(req),
            allowed=lambda: self._door.still_admits(session, self),
        )
