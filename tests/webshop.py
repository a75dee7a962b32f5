"""A shop for pictures of a busy system: what it sends, what its carrier does, how its hour was."""

import csv
import http.client
import itertools
import json
import math
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg.types.json import Jsonb

from slimtrack.domain.order import JOURNEY, Status
from slimtrack.domain.retry import PermanentError
from slimtrack.domain.work import Assignment

_ORDERS: Final = Path(__file__).parents[1] / "examples/orders.csv"
#: Orders a second.
RATE: Final = 3.0
#: What the carrier knows no street for, until somebody corrects it.
WRONG_CODE: Final = "00000-000"
#: Every so many orders one meets with this.
_TIRED, _FROZEN, _LOST, _HEAVY = 11, 61, 89, 149


class CarrierUnavailableError(Exception):
    """The carrier does not take the parcel now."""


class UnknownPostalCodeError(PermanentError):
    """The carrier does not know where the parcel should go."""


class ParcelTooHeavyError(PermanentError):
    """The carrier will never take the parcel."""


class Carrier:
    """Books parcels, as the work of a stage; it says no as often as real ones do."""

    def __call__(self, assignment: Assignment) -> None:
        """Book, or say why not."""
        parcel = assignment.order.metadata
        time.sleep(random.lognormvariate(-3.2, 0.4))
        code = assignment.payload.get("postal_code", parcel["postal_code"])
        if code == WRONG_CODE:
            raise UnknownPostalCodeError(f"No street has the postal code {code}.")
        if float(parcel["weight_kg"]) > 30:
            raise ParcelTooHeavyError("Parcels over 30 kg travel by freight, not by courier.")
        if parcel["service"] == "frozen":
            raise CarrierUnavailableError("503: no refrigerated van before tomorrow morning.")
        if parcel["service"] == "same_day" and assignment.attempt == 1:
            raise CarrierUnavailableError("504: the carrier did not answer within 2 s.")


book: Final = Carrier()


class Shop:
    """Sends orders over HTTP.

    Args:
        url: where the API is.
        key: an API key that may do everything.
    """

    def __init__(self, url: str, *, key: str) -> None:
        self._place = urlsplit(url).netloc
        self._key = key
        self._parcels = _parcels()

    def place(self, count: int) -> None:
        """Place some orders at once."""
        self.call("POST", "/api/orders/bulk", list(itertools.islice(self._parcels, count)))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Place orders one by one until the end of the block."""
        closing = threading.Event()

        def sell() -> None:
            while not closing.wait(random.expovariate(RATE)):
                self.call("POST", "/api/orders", next(self._parcels))

        selling = threading.Thread(target=sell)
        selling.start()
        try:
            yield
        finally:
            closing.set()
            selling.join()

    def send(self, *journey: tuple[Status, float]) -> Mapping[str, Any]:
        """Have an order that a courier reports on: what it reached, and how many hours ago."""
        order: Mapping[str, Any] = self.call("POST", "/api/orders", next(self._parcels))
        for status, hours in journey:
            happened = datetime.now(UTC) - timedelta(hours=hours)
            report = {"status": status, "occurred_at": happened.isoformat(), "source": "courier"}
            self.call("POST", f"/api/orders/{order['id']}/reports", report)
        return order

    def call(self, method: str, path: str, body: object) -> Any:
        """Ask the API for something that it grants."""
        connection = http.client.HTTPConnection(self._place, timeout=30)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, content
        return json.loads(content)


def _parcels() -> Iterator[dict[str, Any]]:
    """Yield what the shop sends; some of it is troublesome."""
    with _ORDERS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chance = random.Random(7)  # noqa: S311 - the same pictures every time
    for number in itertools.count(1):
        row = rows[number % len(rows)]
        yield {
            "reference": f"PO-{48_200 + number}",
            "description": row["description"],
            "metadata": {
                "customer": row["customer"],
                "city": row["city"],
                "postal_code": WRONG_CODE
                if number % _LOST == 0
                else f"{chance.randrange(10_000, 99_999)}-{chance.randrange(100, 999)}",
                "weight_kg": "34.50" if number % _HEAVY == 0 else row["weight_kg"],
                "service": "frozen"
                if number % _FROZEN == 0
                else "same_day"
                if number % _TIRED == 0
                else "standard",
            },
        }


#: Seconds in which half of the orders usually reach a status, once they are due.
_USUAL: Final = dict(zip(JOURNEY, (0.03, 0.11, 0.05, 0.02), strict=True))


def remember(connection: psycopg.Connection[Any], *, until: datetime, letters: int) -> None:
    """Store the samples of an hour that nobody has waited for: a usual one, with one outage.

    For a minute and a half no row was published; then what had waited was delivered at once. In
    the end there were so many dead letters.
    """
    chance = random.Random(11)  # noqa: S311 - the same pictures every time
    given_up = sorted(chance.sample(range(360), letters))
    began = until - timedelta(hours=1)
    for step in range(360):
        minute = step / 6
        tide = 1 + 0.3 * math.sin(minute / 9)
        rate = RATE * tide * chance.uniform(0.9, 1.1)
        is_away, is_back = 25 <= minute < 26.5, 26.5 <= minute < 27.5
        done = 0 if is_away else rate * (2.6 if is_back else 1)
        oldest = (minute - 25) * 60 if is_away else chance.uniform(0, 0.3)
        statuses: dict[str, dict[str, float | None]] = {
            "received": {"rate": round(rate, 3), "p50": None, "p90": None}
        }
        for status in () if is_away else JOURNEY:
            p50 = _USUAL[status] * tide * chance.uniform(0.85, 1.15) * (5 if is_back else 1)
            statuses[status] = {
                "rate": round(done * chance.uniform(0.9, 1.1), 3),
                "p50": round(p50, 4),
                "p90": round(p50 * chance.uniform(1.6, 2.4), 4),
            }
        connection.execute(
            "INSERT INTO samples (taken_at, oldest_due, dead_letters, stuck, statuses)"
            " VALUES (date_bin('10 s', %s, 'epoch'), %s, %s, 0, %s)"
            " ON CONFLICT (taken_at) DO UPDATE SET (oldest_due, dead_letters, statuses) ="
            " (excluded.oldest_due, excluded.dead_letters, excluded.statuses)",
            (
                began + timedelta(seconds=10 * step),
                oldest,
                bisect_right(given_up, step),
                Jsonb(statuses),
            ),
        )
