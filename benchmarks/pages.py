"""People who look on: open pages, and what their scripts ask for whenever there is news."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import cycle, product
from socket import SHUT_RDWR
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.figures import FaultError
from benchmarks.system import Processes
from slimtrack.domain.order import JOURNEY, Flow, NewOrder, Order, new_order_id
from slimtrack.domain.report import Report
from slimtrack.http.live import MEDIA_TYPE
from slimtrack.routing import Schedule
from slimtrack.sql.pool import Pool, open_pool
from slimtrack.use_cases.changing import Changes, Target
from slimtrack.use_cases.tracking import Tracking


class _Kind(NamedTuple):
    """Pages of one kind: how many are open, where they are, and what they follow.

    To each of them come at least so many pieces of news, the first with its state. One that renews
    itself is asked for anew at each that follows; the others show what they are told.
    """

    number: int
    page: str
    live: str
    least: int
    renews: bool


#: Lists of orders and of dead letters follow nothing: open, they cost nothing.
_KINDS: Final = (
    _Kind(15, "/dashboard", "/dashboard/live/overview", least=3, renews=False),
    _Kind(10, "/dashboard/queues", "/dashboard/live/queues", least=3, renews=True),
    # While all goes well nothing changes there; but that has to be found out.
    _Kind(5, "/dashboard/resources", "/dashboard/live/resources", least=1, renews=True),
    _Kind(10, "/dashboard/orders/{id}", "/dashboard/live/order?id={id}", least=2, renews=True),
    _Kind(10, "/t/{code}", "/t/{code}/live", least=2, renews=True),
)
#: Orders that are looked at: as many as there are pages of one.
_ORDERS: Final = 10
#: Seconds between two reports on an order; a simulated one moves about as often.
_EVERY: Final = 4.0
#: Seconds that a page waits for anything at all; a quiet stream says every 15 that it is there.
_TIMEOUT: Final = 30.0
#: Seconds that a stream lasts, at least; the server ends each after 8 to 10 minutes.
_LASTS: Final = 300.0


class Reporting:
    """Reports on a few orders until they are delivered, and then on others, beside the API.

    Args:
        pool: connections to PostgreSQL.
        schedule: when each stage is due.

    Attributes:
        orders: those that are on their way.
        reported_at: when an order became a version of itself.
        delays: seconds from a report to when a page had it to show.
    """

    def __init__(self, pool: Pool, *, schedule: Schedule) -> None:
        self._pool = pool
        self._schedule = schedule
        self._stopping = threading.Event()
        self.orders = [self._place() for _ in range(_ORDERS)]
        self.reported_at: dict[tuple[UUID, int], float] = {}
        self.delays: list[float] = []
        self._thread = threading.Thread(target=self._run, name="reports")
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for status, number in cycle(product(JOURNEY, range(_ORDERS))):
            if self._stopping.wait(_EVERY / _ORDERS):
                return
            order_id = self.orders[number].id
            with self._pool.connection() as connection:
                changes = Changes(
                    connection, schedule=self._schedule, fan_out=False, answer_lifetime=0
                )
                target = Target(order=order_id, tenant_id=None)
                changed = changes.report(target, Report(status=status))
            self.reported_at[order_id, changed.version] = time.monotonic()
            if status is JOURNEY[-1]:
                self.orders[number] = self._place()

    def _place(self) -> Order:
        tracking = Tracking(self._pool, wake_up=lambda: None, schedule=self._schedule)
        new = NewOrder(id=new_order_id(), description="A parcel", flow=Flow.REPORTED)
        return tracking.place(new)


class _Page:
    """What somebody has open: one thread, with a connection for the stream and another.

    Whoever has seen an order delivered looks at another one.

    Attributes:
        live: what it follows.
        has_begun: set with the first piece of news, or where there will be none.
        fault: what was not as it should be.
    """

    def __init__(self, api_url: str, kind: _Kind, *, number: int, reporting: Reporting) -> None:
        self.live = kind.live
        self._kind = kind
        self._number = number
        self._reporting = reporting
        self._asking, self._following = (self._connection(api_url) for _ in range(2))
        self._headers: dict[str, str] = {}
        self._news = 0
        self._is_closing = False
        self.has_begun = threading.Event()
        self.fault = ""
        self._thread = threading.Thread(target=self._run, name=kind.live)
        self._thread.start()

    def close(self) -> None:
        """Leave, as somebody does who closes the window."""
        self._is_closing = True
        for each in (self._asking, self._following):
            if each.sock:
                with suppress(OSError):
                    each.sock.shutdown(SHUT_RDWR)
        self._thread.join()
        if not self.fault and self._news < self._kind.least:
            self.fault = f"of {self._kind.least} pieces of news, {self._news} came"

    def _connection(self, api_url: str) -> HTTPConnection:
        # Everybody has an address of their own: the tracking page counts the requests of each.
        return HTTPConnection(
            urlsplit(api_url).netloc,
            timeout=_TIMEOUT,
            source_address=(f"127.0.1.{self._number}", 0),
        )

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._look_at(self._reporting.orders[self._number % _ORDERS])
        except (OSError, HTTPException, FaultError) as error:
            if not self._is_closing:
                self.fault = repr(error)
        self.has_begun.set()

    def _look_at(self, order: Order) -> None:
        """Open the page, of this order if it is one of an order, and do as its script does.

        Returns where the order is delivered, or the stream has had its time.
        """
        page, live = (
            each.format(id=order.id, code=order.tracking_code)
            for each in (self._kind.page, self._kind.live)
        )
        self._ask(page)
        self._following.request("GET", live, headers={"Accept": MEDIA_TYPE, **self._headers})
        opened_at = time.monotonic()
        stream = self._following.getresponse()
        if stream.status != 200:
            raise FaultError(f"answered {stream.status}")
        is_new = False  # what the stream begins with
        for line in stream:
            if not line.startswith(b"data: "):
                continue
            news = json.loads(line.removeprefix(b"data: "))
            self._news += 1
            self.has_begun.set()
            if self._kind.renews and is_new:
                self._ask(page)
            if isinstance(news, str | int):  # the version of an order, perhaps with more behind it
                version = int(str(news).partition(".")[0])
                if is_new:
                    self._note(order, version)
                if version > len(JOURNEY):
                    break
            is_new = True
        else:
            if time.monotonic() - opened_at < _LASTS:
                raise FaultError("the stream has ended")
        for each in (self._asking, self._following):  # the server has parted with what was quiet
            each.close()

    def _note(self, order: Order, version: int) -> None:
        reported_at = self._reporting.reported_at.get((order.id, version))
        if reported_at:
            self._reporting.delays.append(time.monotonic() - reported_at)

    def _ask(self, page: str) -> None:
        self._asking.request("GET", page, headers={"Accept": "text/html", **self._headers})
        answer = self._asking.getresponse()
        answer.read()
        if answer.status != 200:
            raise FaultError(f"{page} was answered {answer.status}")
        if cookie := answer.getheader("Set-Cookie"):
            self._headers["Cookie"] = cookie.partition(";")[0]


@contextmanager
def reports(processes: Processes) -> Iterator[Reporting]:
    """Have a few orders reported on meanwhile."""
    settings = processes.settings
    with open_pool(
        settings.database_url, application_name="bench", size=1, options={}, timeout=5
    ) as pool:
        reporting = Reporting(pool, schedule=Schedule(settings.stage_delays))
        try:
            yield reporting
        finally:
            reporting.stop()


@contextmanager
def open_pages(processes: Processes, reporting: Reporting) -> Iterator[None]:
    """Have fifty pages open meanwhile, each of which knows already how things are.

    Raises:
        FaultError: a page was not served, or did not follow what happened.
    """
    kinds = [kind for kind in _KINDS for _ in range(kind.number)]
    pages = [
        _Page(processes.api_url, kind, number=number, reporting=reporting)
        for number, kind in enumerate(kinds, start=1)
    ]
    try:
        for page in pages:
            page.has_begun.wait(_TIMEOUT)
        yield
    finally:
        for page in pages:
            page.close()
    if faults := [f"{page.live}: {page.fault}" for page in pages if page.fault]:
        raise FaultError(f"Of {len(pages)} pages {len(faults)} did not follow: {faults[0]}")
