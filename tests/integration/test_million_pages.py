"""Every page, with a million orders and ten thousand dead letters."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import falcon
import falcon.inspect
import falcon.testing
import pika
import pytest
from explaining import explain, pages_of
from millions import BUSIEST, OPERATION, ORDERS, REPLAYED, START
from psycopg_pool import ConnectionPool
from visitors import Visitor, dashboard_app

from slimtrack.bootstrap.tracking import create_tracking
from slimtrack.broker.topology import (
    DEAD_LETTER_QUEUE_ARGUMENTS,
    dead_letter_queue,
    queue_arguments,
)
from slimtrack.domain.access import Scope
from slimtrack.domain.order import Status, first_id_of
from slimtrack.domain.tracking_code import format_code
from slimtrack.http.queries import make_cursor
from slimtrack.local.log import log_path
from slimtrack.routing import BY_QUEUE
from slimtrack.settings import Settings
from slimtrack.use_cases.access import Access

#: Seconds that a page may take at the server, without those in which others had the processors:
#: the median of so many visits. They are repeated where it is more, as others take the caches too.
MOST_SECONDS = 0.150
VISITS = 5
MOST_ROUNDS = 4
#: Pages of 8 kB that the statements of one visit may look at.
MOST_PAGES = 8_000
#: Where more is looked at: each row of a replay is sought among dead letters, and in the outbox.
MORE_PAGES = {f"/dashboard/dead-letters/operations/{OPERATION}": 10 * REPLAYED}
#: Answers: a page, perhaps one of what is wrong, or the way to another one.
EXPECTED = {200, 303, 400, 404, 409, 422}
#: Routes at which a visitor is refused, because there is a wrong key.
REFUSING = {"/dashboard/sign-in"}
#: Tables of which nobody reads all rows.
LARGE = ("orders", "order_statuses", "order_events", "order_incidents", "samples")
#: Lines of the log: as many as are looked at, at most, and some.
LINES = 60_000

LISTS = (
    "",
    *(f"?status={status}" for status in Status),
    "?status=received&status=lost",
    f"?q=PO-{ORDERS // 2 + 1}",
    "?q={order_code}",
    "?q=nothing",
    "?created_before=2026-01-01T01:00",
    "?created_after=2026-01-12T10:00",
    "?created_after=2026-01-05T00:00&created_before=2026-01-06T00:00&status=lost",
    *("?updated_after=2026-02-02T00:00", "?updated_before=2026-01-02T00:00"),
    "?updated_after=2026-01-05T00:00&updated_before=2026-01-05T01:00&status=lost",
    "?updated_after=2026-01-01T00:00",
    "?cursor={far_end}",
)
ORDER = ("{order}", "{order_code}", "{busiest}", "{stuck}")
#: The numbers of the orders that are visited: an ordinary one, and those that take more.
ORDERS_VISITED = {
    "order": 4_711,
    "small_order": 5_000,
    "busiest": BUSIEST,
    "waiting": 9,
    "stuck": 89,
}
#: By their routes, the addresses under which pages are visited.
PAGES = {
    "/": ["/"],
    "/dashboard": ["/dashboard"],
    "/dashboard/overview/samples": ["/dashboard/overview/samples"],
    "/dashboard/sign-in": ["/dashboard/sign-in"],
    "/dashboard/orders": [f"/dashboard/orders{each}" for each in LISTS],
    "/dashboard/orders/{order}": [f"/dashboard/orders/{each}" for each in ORDER],
    "/dashboard/orders/{order}/report": ["/dashboard/orders/{order}/report"],
    "/dashboard/orders/{order}/correct": ["/dashboard/orders/{order}/correct"],
    "/dashboard/orders/{order}/cancel": ["/dashboard/orders/{order}/cancel"],
    "/dashboard/queues": ["/dashboard/queues"],
    "/dashboard/queues/reconcile": ["/dashboard/queues/reconcile"],
    "/dashboard/dead-letters": [
        f"/dashboard/dead-letters{each}"
        for each in (
            *("", "?before=5000", "?stage=processing", "?error=carrier+7", "?error=nothing"),
            *("?type=KeyError", "?group=cause+7", "?order={stuck}", "?discarded=1"),
            *("?newer=1h", "?older=1h", "?stage=delivered&newer=1d&error=parcel"),
        )
    ],
    "/dashboard/dead-letters/{letter:int(min=1)}": ["/dashboard/dead-letters/{letter}"],
    "/dashboard/actions": ["/dashboard/actions", "/dashboard/actions?before=100"],
    "/dashboard/dead-letters/operations/{operation}": [
        f"/dashboard/dead-letters/operations/{OPERATION}"
    ],
    "/dashboard/resources": ["/dashboard/resources"],
    "/dashboard/resources/{name}": ["/dashboard/resources/postgresql"],
    "/dashboard/logs": [
        f"/dashboard/logs{each}"
        for each in (
            *("", "?level=error", "?process=worker-1", "?text=parcel+59", "?text=nothing"),
            *("?order={order}", "?correlation=request-7", "?since=2026-01-01T00:00"),
        )
    ],
    "/dashboard/simulate": ["/dashboard/simulate"],
    "/dashboard/live/overview": ["/dashboard/live/overview"],
    "/dashboard/live/order": ["/dashboard/live/order?id={busiest}"],
    "/dashboard/live/resources": [
        "/dashboard/live/resources",
        "/dashboard/live/resources?name=postgresql",
    ],
    "/dashboard/live/queues": ["/dashboard/live/queues"],
    "/dashboard/live/logs": ["/dashboard/live/logs", "/dashboard/live/logs?text=nothing"],
    "/t": ["/t", "/t?code={order_code}"],
    "/t/{code}": [
        "/t/{order_code}",
        "/t/{waiting_code}",
        "/t/{busiest_code}",
        "/t/SL-0000-0000-0000-1",
    ],
    "/t/{code}/live": ["/t/{order_code}/live"],
}
#: Those that tenants see as well.
OF_TENANTS = ("/dashboard/orders", "/dashboard/orders/{order}")
#: By their routes, forms that are answered with a page, and change nothing.
FORMS: Mapping[str, list[dict[str, Any]]] = {
    "/dashboard/sign-in": [{"key": "stk_0123456789ab_" + "0" * 64}],
    "/dashboard/sign-out": [{}],
    "/dashboard/orders/{order}/report": [{"status": "nowhere"}],
    "/dashboard/orders/{order}/correct": [{"sequence": "9999999999"}],
    "/dashboard/orders/{order}/cancel": [{"reason": "too late"}],
    "/dashboard/queues/reconcile": [{"reason": ""}],
    "/dashboard/dead-letters/preview": [
        {"action": "replay"},
        {"action": "discard", "stage": "processing", "newer": "1d"},
        {"action": "replay", "which": "selected", "id": ["1", "2"]},
    ],
    "/dashboard/dead-letters/decide": [
        {"action": "replay", "operation": OPERATION, "up_to": "20000", "expected": "20000"}
    ],
    "/dashboard/dead-letters/{letter:int(min=1)}/edit": [
        {"operation": OPERATION, "payload": "no JSON"}
    ],
    "/dashboard/resources/{name}/connection": [{}],
    "/dashboard/simulate": [{"count": "none"}],
    "/dashboard/simulate/stop": [{"name": "nothing"}],
}


class Visit(NamedTuple):
    """A visit to a page: whose, and of which address."""

    who: str
    path: str
    form: dict[str, Any] | None = None

    def __str__(self) -> str:
        method = "GET" if self.form is None else f"POST {self.form}"
        return f"{self.who}: {method} {self.path}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose log is longer than anybody looks back."""
    directory = tmp_path_factory.mktemp("state")
    with log_path(directory).open("w", encoding="utf-8") as file:
        for n in range(LINES):
            file.write(
                f'worker-{n % 4} | {{"event": "order.moved", "stage": "in_transit",'
                f' "level": "{"error" if n % 10_000 == 0 else "info"}",'
                f' "order_id": "0193a1b2-0000-7000-8000-{n:012}", "correlation_id": "request-{n}",'
                f' "said": "parcel {n}", "timestamp": "2026-02-01T{n // 3600 % 24:02}:00:00Z"}}\n'
            )
    return directory


@pytest.fixture(scope="module")
def settings(servers: Mapping[str, str], million: str) -> Settings:
    return Settings.from_environment(
        {**servers, "DATABASE_URL": million, "SLIMTRACK_SIMULATION": "on"}
    )


@pytest.fixture(scope="module")
def queues(servers: Mapping[str, str]) -> None:
    """The queues of the stages, as workers declare them."""
    with pika.BlockingConnection(pika.URLParameters(servers["AMQP_URL"])) as connection:
        channel = connection.channel()
        for name in BY_QUEUE:
            channel.queue_declare(name, durable=True, arguments=queue_arguments(name))
            channel.queue_declare(
                dead_letter_queue(name), durable=True, arguments=DEAD_LETTER_QUEUE_ARGUMENTS
            )


@pytest.fixture(scope="module")
def make_app(
    settings: Settings, million_pool: ConnectionPool, log: Path
) -> Iterator[Callable[[], falcon.App[Any, Any]]]:
    """Makes apps that have seen nothing yet, so that nothing is held that was seen before."""
    tracking = create_tracking(settings, million_pool, wake_up=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMTRACK_STATE_DIR", str(log))
        yield lambda: dashboard_app(settings, million_pool, tracking)


@pytest.fixture(scope="module")
def places(million_pool: ConnectionPool) -> dict[str, object]:
    """What stands in the addresses."""
    with million_pool.connection() as connection:
        found = {
            name: connection.execute(
                "SELECT id, tracking_number FROM orders WHERE id = id_of(%s)", (n,)
            ).fetchone()
            for name, n in ORDERS_VISITED.items()
        }
        letter = connection.execute("SELECT max(id) FROM dead_letters").fetchone()
    assert letter
    far_end = make_cursor(first_id_of(START + timedelta(minutes=30)))
    places: dict[str, object] = {"letter": letter[0], "name": "postgresql", "far_end": far_end}
    for name, order in found.items():
        assert order
        places[name] = order[0]
        places[f"{name}_code"] = format_code(order[1])
    return places


@pytest.fixture(scope="module")
def visitors(
    make_app: Callable[[], falcon.App[Any, Any]], million_pool: ConnectionPool
) -> Mapping[str, Visitor]:
    """Those who visit: who runs the system, and a tenant with few orders; each has signed in."""
    made = {}
    for tenant in ("default", "small"):
        visitor = Visitor(make_app())
        token = Access(million_pool).create_key(tenant=tenant, name="test", scopes=list(Scope))
        assert visitor.sign_in(token).status_code == 303
        assert visitor.get("/dashboard/orders").status_code == 200  # has the session's token
        made[tenant] = visitor
    return made


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("queues")
def test_every_page_is_there_at_once(
    make_app: Callable[[], falcon.App[Any, Any]],
    visitors: Mapping[str, Visitor],
    places: dict[str, object],
    million_pool: ConnectionPool,
) -> None:
    assert set(routes_of(make_app())) == {("GET", route) for route in PAGES} | {
        ("POST", route) for route in FORMS
    }

    with million_pool.connection() as connection:
        pids = (os.getpid(), connection.info.backend_pid)

    def visit(wanted: Visit) -> float:
        """Return how many seconds an app takes that has seen nothing yet."""
        visitor = visitors[wanted.who].at(make_app())
        visitor.get("/health/live")  # when Falcon compiles its routes
        began = time.perf_counter() - waited(*pids)
        if wanted.form is None:
            answer = visitor.get(wanted.path, Accept="*/*")
        else:
            answer = visitor.post(wanted.path, **wanted.form)
        seconds = time.perf_counter() - waited(*pids) - began
        expected = {403} if wanted.form and wanted.path in REFUSING else EXPECTED
        assert answer.status_code in expected, (wanted, answer.text)
        assert "event: away" not in answer.text, wanted
        return seconds

    slow, large = [], []
    for wanted in visits(places):
        plans = explain(million_pool, partial(visit, wanted))  # the first visit, which warms up
        for name in LARGE:
            scans = [plan for plan in plans if re.search(rf"Seq Scan on {name}\b", plan)]
            assert not scans, f"{wanted}:\n" + "\n".join(scans)
        pages = sum(map(pages_of, plans))
        for _ in range(MOST_ROUNDS):
            seconds = median(visit(wanted) for _ in range(VISITS))
            if seconds < MOST_SECONDS:
                break
        said = f"{1000 * seconds:.0f} ms, {pages} pages: {wanted}"
        print(said)  # noqa: T201
        if seconds >= MOST_SECONDS:
            slow.append(said)
        if pages >= MORE_PAGES.get(wanted.path, MOST_PAGES):
            large.append(said)
    assert not slow
    assert not large


def waited(*pids: int) -> float:
    """Return for how many seconds processes had something to do, and others had the processors."""
    paths = [Path(f"/proc/{pid}/schedstat") for pid in pids]
    return sum(int(path.read_text().split()[1]) for path in paths if path.exists()) / 1e9


def routes_of(app: falcon.App[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yield the methods and routes of all pages of an app, and of what they ask for."""
    for route in falcon.inspect.inspect_routes(app):
        if route.path == "/" or route.path.split("/")[1] in {"dashboard", "t"}:
            for method in route.methods:
                if not method.internal:
                    yield method.method, route.path


def visits(places: Mapping[str, object]) -> Iterator[Visit]:
    """Yield all visits."""
    for route, paths in PAGES.items():
        for path in paths:
            yield Visit("default", path.format(**places))
            if route in OF_TENANTS:
                yield Visit("small", path.format(**{**places, "order": places["small_order"]}))
    for route, forms in FORMS.items():
        path = route.replace(":int(min=1)", "").format(**places)
        for form in forms:
            yield Visit("default", path, form)
