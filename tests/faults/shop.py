"""The work that a shop gives its stages, called by worker processes under test."""

import http.client
import os
import signal
from urllib.parse import urlsplit

from slimtrack.domain.work import Assignment


class Booking:
    """Books a parcel with the carrier; what is described as poison ends its process instead."""

    def __call__(self, assignment: Assignment) -> None:
        if assignment.order.description == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        _ask("PUT", assignment)

    def undo(self, assignment: Assignment) -> None:
        _ask("DELETE", assignment)


def _ask(method: str, assignment: Assignment) -> None:
    host = urlsplit(os.environ["CARRIER_URL"]).netloc
    connection = http.client.HTTPConnection(host, timeout=assignment.time_limit)
    try:
        connection.request(method, f"/bookings/{assignment.idempotency_key}")
        status = connection.getresponse().status
        if status >= 400:
            raise RuntimeError(f"the carrier answers {status}")
    finally:
        connection.close()


book = Booking()
