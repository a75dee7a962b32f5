"""Looking at pages of a running system with a real browser; the fixtures of tests/browser."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from api_server import serve
from isolation import delete_queues, own_database
from playwright.sync_api import Browser, Page, expect, sync_playwright
from psycopg_pool import ConnectionPool

from slimtrack.domain.access import Scope
from slimtrack.domain.order import Flow, NewOrder, new_order_id
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.stack.processes import plan_publisher, plan_workers
from slimtrack.stack.supervisor import Supervisor
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking

_AXE: Final = Path(__file__).parent / "browser/vendor/axe.min.js"
_INSTALL: Final = "apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium"
#: The browser runs as root here, and looks for nothing by itself.
_FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds in which a page shows what it should.
_PATIENCE: Final = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """API, publisher and workers on a database of their own, and keys for them."""

    url: str
    environment: Mapping[str, str]
    pool: ConnectionPool
    tracking: Tracking
    operator: str
    reader: str
    stranger: str

    def place(self, **fields: Any) -> NewOrder:
        """Place an order of the default tenant."""
        new = NewOrder(id=new_order_id(), description="An espresso machine", **fields)
        self.tracking.place(new)
        return new


def sign_in(page: Page, token: str, *, path: str = "/dashboard") -> None:
    """Show a key, and go on to a page."""
    page.goto(path)
    page.get_by_label("API key").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{path}")


def look_at(page: Page) -> None:
    """Assert that axe finds nothing serious on a page, in either colour scheme, nor too wide."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(_AXE.read_text("utf-8"))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [
            (each["id"], each["impact"], [node["html"] for node in each["nodes"]])
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
        ] == []
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], "the page is wider than its window"


def find_chromium() -> str:
    """Return where Chromium is; as root, it is installed where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["sh", "-c", _INSTALL], check=True, capture_output=True, env=environment)  # noqa: S607 - of this machine
        return find_chromium()
    pytest.fail("These tests need Chromium: install it (Debian: apt-get install chromium).")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Run Chromium until the end of the block."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_chromium(), args=_FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def system(
    servers: Mapping[str, str], template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One system for the tests of a file; each has orders of its own.

    No longer than that: its workers take from the queues of whoever else uses these servers.
    """
    delete_queues(servers["AMQP_URL"])
    with own_database(servers["DATABASE_URL"], template) as url:
        yield from _run_system({**servers, "DATABASE_URL": url}, tmp_path_factory.mktemp("system"))


def _run_system(servers: Mapping[str, str], folder: Path) -> Iterator[System]:
    environment = {
        **os.environ,
        **servers,
        "SLIMTRACK_STAGE_DELAYS": "0",
        "SLIMTRACK_MIN_BACKOFF": "0.1",
        "SLIMTRACK_MAX_RETRIES": "1",
        "SLIMTRACK_LOG_FORMAT": "json",
    }
    settings = Settings.from_environment(environment)
    with ExitStack() as stack:
        pool = stack.enter_context(
            open_pool(settings.database_url, application_name="test", size=2, options={}, timeout=5)
        )
        access = Access(pool)
        access.create_tenant("shop", flow=Flow.REPORTED)

        def make_key(*scopes: Scope, tenant: str = "default") -> str:
            return access.create_key(tenant=tenant, name="browser", scopes=scopes)

        supervisor = Supervisor(on_line=lambda *_: None)
        stack.callback(supervisor.stop)
        supervisor.start([plan_publisher(environment), *plan_workers(environment)])
        server = stack.enter_context(serve(environment, folder, workers=1))
        yield System(
            url=f"http://127.0.0.1:{server.port}",
            environment=environment,
            pool=pool,
            tracking=Tracking(pool, wake_up=lambda: None, schedule=Schedule(settings.stage_delays)),
            operator=make_key(*Scope),
            reader=make_key(Scope.ORDERS_READ),
            stranger=make_key(*Scope, tenant="shop"),
        )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the one that is there, or Debian's."""
    expect.set_options(timeout=_PATIENCE)
    with open_browser() as opened:
        yield opened


@pytest.fixture
def new_page(browser: Browser, system: System) -> Iterator[Callable[..., Page]]:
    """Makes pages in which nothing may go wrong, and which may ask nobody but the system.

    Answers of 4xx that a test asks for are not what a console should be silent about.
    """
    complaints: list[str] = []
    contexts = []

    def make(**options: Any) -> Page:
        context = browser.new_context(base_url=system.url, **{"locale": "en-GB", **options})
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{message.type}: {message.text}")
                if message.type in {"error", "warning"}
                and "the server responded with a status of 4" not in message.text
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((system.url, "data:"))
                else complaints.append(f"asked: {request.url}")
            ),
        )
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A page of a usual size."""
    return new_page()
