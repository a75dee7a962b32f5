"""The pages of orders in a real browser."""

import re
from collections.abc import Callable

from browsing import System, look_at, sign_in
from playwright.sync_api import Page, expect

from slimtrack.domain.order import Flow


def test_an_order_is_found_reported_on_and_followed_with_the_keyboard_alone(
    page: Page, new_page: Callable[..., Page], system: System
) -> None:
    order = system.place(flow=Flow.REPORTED, reference="keyboard")
    sign_in(page, system.operator, path="/dashboard/orders")
    look_at(page)
    page.get_by_label("Search").focus()
    page.keyboard.type(system.tracking.get(order.id).tracking_code)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/orders/{order.id}")
    watcher = new_page()
    sign_in(watcher, system.reader, path=f"/dashboard/orders/{order.id}")
    watcher.get_by_text("Raw JSON").click()

    page.get_by_text("Report what happened").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Happened").fill("2026-01-31T12:00:00")
    page.get_by_label("Location").focus()
    page.keyboard.type("Kraków hub")
    page.keyboard.press("Enter")

    page.get_by_text("Reported.").wait_for()
    expect(page.locator("[aria-current=step]")).to_contain_text("Processing")
    look_at(page)
    # Whoever looks at it sees it without a reload, and what was open stays so.
    expect(watcher.locator("[aria-current=step]")).to_contain_text("Processing")
    expect(watcher.get_by_role("status").filter(has_text="now: Processing")).to_be_attached()
    expect(watcher.locator("#raw pre")).to_contain_text("Kraków hub")
    assert watcher.get_by_text("Report what happened").count() == 0


def test_narrow_pages_in_another_zone(new_page: Callable[..., Page], system: System) -> None:
    order = system.place(reference="test:fails_always/narrow", metadata={"city": 60 * "Wien"})
    narrow = {"width": 360, "height": 640}
    page = new_page(viewport=narrow, timezone_id="America/Sao_Paulo")
    sign_in(page, system.operator, path="/dashboard/orders")
    page.get_by_role("link", name=system.tracking.get(order.id).tracking_code).wait_for()
    look_at(page)
    page.get_by_label("Placed from").fill("2026-01-31T09:00:00")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url(re.compile(r"orders\?created_after=2026-01-31T12%3A00%3A00.000Z$"))
    assert page.get_by_label("Placed from").input_value() == "2026-01-31T09:00"

    page.goto(f"/dashboard/orders/{order.id}")
    page.locator(".timeline .dead_letter").wait_for()
    page.get_by_text(re.compile("^Events")).click()
    page.get_by_text("Cancel the order").first.click()
    look_at(page)
