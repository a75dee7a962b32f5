"""Pages that follow what happens: streams of server-sent events, and one reader for all of them."""

from slimtrack.http.live.broadcaster import MEDIA_TYPE, Broadcaster
from slimtrack.http.live.topic import Topic

__all__ = ["MEDIA_TYPE", "Broadcaster", "Topic"]
