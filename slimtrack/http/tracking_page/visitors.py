"""Who visits: addresses, which ask as often as they may."""

from collections.abc import Callable

import falcon

from slimtrack.http.auth import refuse_excess
from slimtrack.redis.rate_limiter import Allowance


class Visitors:
    """Counts the requests of each address.

    Args:
        take: counts a request of a name; None where it passes uncounted.
        asker_of: whose address a request is of.
    """

    def __init__(
        self,
        *,
        take: Callable[[str], Allowance | None],
        asker_of: Callable[[falcon.Request], str],
    ) -> None:
        self._take = take
        #: Returns whose address a request is of.
        self.asker_of = asker_of

    def count(self, req: falcon.Request) -> None:
        """Count a request; refuse it with 429 where there were too many."""
        allowance = self._take(f"visitor:{self.asker_of(req)}")
        if allowance:
            refuse_excess(allowance)
