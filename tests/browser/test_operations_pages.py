"""The pages of those who run the system, on a whole stack, with a real browser."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from browsing import System, look_at, sign_in
from command import run_slimtrack
from playwright.sync_api import Page, expect
from psycopg import sql

from slimtrack.domain.access import Scope
from slimtrack.local.state import running_stack
from slimtrack.routing import Schedule
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.stack.directory import free_ports
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.tracking import Tracking


@pytest.fixture(scope="module")
def system(servers: Mapping[str, str], template: str) -> Iterator[System]:
    """A stack, in the place of the system that other pages are looked at on."""
    name = "operated"
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    with tempfile.TemporaryDirectory(prefix="slimtrack-stack-") as folder:
        # As root, a stack wants its servers' users to reach it.
        Path(folder).chmod(0o755)
        environment = {
            # Without AMQP_URL: workers of the other system would take the messages of this one.
            **{name: text for name, text in os.environ.items() if name != "AMQP_URL"},
            "REDIS_URL": servers["REDIS_URL"],
            "DATABASE_URL": servers["DATABASE_URL"].rpartition("/")[0] + f"/{name}",
            "SLIMTRACK_API_BIND": f"127.0.0.1:{free_ports(1)[0]}",
            "SLIMTRACK_API_WORKERS": "1",
            "SLIMTRACK_STAGE_DELAYS": "0",
            "SLIMTRACK_MAX_RETRIES": "0",
            "SLIMTRACK_STATE_DIR": f"{folder}/state",
        }
        try:
            started = run_slimtrack("up", "--detach", environment=environment)
            stack = running_stack(Path(folder) / "state")
            assert stack, started.stderr
            settings = Settings.from_environment(stack.environment)
            with open_pool(
                settings.database_url, application_name="test", size=1, options={}, timeout=5
            ) as pool:
                yield System(
                    url=stack.api_url,
                    environment=environment,
                    pool=pool,
                    tracking=Tracking(
                        pool, wake_up=lambda: None, schedule=Schedule(settings.stage_delays)
                    ),
                    operator=stack.api_key,
                    reader=Access(pool).create_key(
                        tenant="default", name="reader", scopes=[Scope.ORDERS_READ]
                    ),
                    stranger="",
                )
        finally:
            run_slimtrack("down", environment=environment)


def test_a_process_that_is_killed_comes_back_and_the_page_says_so(
    page: Page, system: System
) -> None:
    sign_in(page, system.operator, path="/dashboard/resources")
    expect(page.locator('[data-state="ready"]')).to_have_count(9)
    look_at(page)
    page.get_by_role("link", name="publisher").click()
    console = page.locator("#console")
    expect(console).to_contain_text("publisher.started")
    expect(page.locator("#restarts")).to_have_text("0")
    look_at(page)

    page.get_by_role("button", name="Kill this process").click()

    expect(page.locator("#restarts")).to_have_text("1")
    page.evaluate("window.isTheSame = true")
    expect(console).to_contain_text(re.compile("ended by itself .*publisher.started", re.DOTALL))
    expect(page.locator("#state")).to_have_attribute("data-state", "ready")
    assert page.evaluate("window.isTheSame"), "the page was loaded again"


def test_simulated_orders_are_placed_and_the_log_and_the_queues_follow(
    page: Page, system: System
) -> None:
    sign_in(page, system.operator, path="/dashboard/logs?text=dead_letter.stored")
    expect(page.get_by_text("No line is like that")).to_be_visible()
    page.evaluate("window.isTheSame = true")
    other = page.context.new_page()
    other.goto("/dashboard/simulate")
    look_at(other)
    other.get_by_label("How many").fill("2")
    other.get_by_label("What they meet with").select_option("fails_always")
    other.get_by_role("button", name="Place them").click()
    expect(other.get_by_text("2 orders are placed")).to_be_visible()

    lines = page.locator("details.record")
    expect(lines).to_have_count(2)
    assert page.evaluate("window.isTheSame"), "the page was loaded again"
    lines.first.locator("summary").click()
    expect(lines.first.get_by_role("link").first).to_have_attribute(
        "href", re.compile("/dashboard/(orders/|logs)")
    )
    look_at(page)
    other.goto("/dashboard/queues")
    dead = other.locator('tr[data-stage="in_transit"] a')
    expect(dead).to_have_text("2")
    look_at(other)


def test_whoever_may_only_read_is_offered_nothing_that_changes_anything(
    new_page: Callable[..., Page], system: System
) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    sign_in(page, system.reader, path="/dashboard/resources")
    look_at(page)
    for path in ("resources/rabbitmq", "simulate", "queues", "queues/reconcile", "logs"):
        page.goto(f"/dashboard/{path}")
        look_at(page)
        assert page.locator("main form[method=post]").count() == 0
    token = page.locator("meta[name=csrf-token]").get_attribute("content")
    refused = page.request.post(
        "/dashboard/simulate", form={"csrf": token or "", "count": "1", "outcome": ""}
    )
    assert refused.status == 403
