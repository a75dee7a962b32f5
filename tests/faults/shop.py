"""The work that a shop gives its stages, called by worker processes under test."""

import http.client
import os
import signal
import threading
from urllib.parse import urlsplit

from slimtrack.domain.work import Assignment


class Booking:
    """Books a parcel with the carrier; what is described as poison ends its process instead.

    Poison "for two" waits a second for a parcel that is booked in another thread meanwhile.
    """

    def __init__(self) -> None:
        self._booked = threading.Event()

    def __call__(self, assignment: Assignment) -> None:
        if assignment.order.description == "poison for two":
            self._booked.wait(timeout=1)
        if assignment.order.description.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        self._booked.set()
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
