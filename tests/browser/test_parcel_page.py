"""The page for those who wait for a parcel, in a real browser."""

import re
from collections.abc import Callable

from browsing import System, look_at
from playwright.sync_api import Page, expect

from slimtrack.domain.idempotency import Answer
from slimtrack.domain.order import JOURNEY, Flow, NewOrder, Status
from slimtrack.domain.report import Report
from slimtrack.use_cases.changing import Changes, Target

#: Seconds from when an event is recorded to its being seen.
PROMPT = 1.0
#: Notes when the page says something else, by the clock that the database has as well.
WATCH = """() => {
    window.seen = {};
    new MutationObserver(() => {
        const said = document.querySelector("h1").textContent;
        if (!(said in window.seen)) window.seen[said] = Date.now() / 1000;
    }).observe(document.body, {childList: true, subtree: true});
}"""


def report(system: System, new: NewOrder, status: Status) -> None:
    told = Report(status=status, message="MARK")
    target = Target(order=new.id, tenant_id=None)

    def command(changes: Changes) -> Answer:
        changes.report(target, told)
        return Answer(status=200, headers={}, body=b"")

    system.tracking.execute(command)


def test_news_are_seen_without_a_reload_and_said_politely(page: Page, system: System) -> None:
    new = system.place(flow=Flow.REPORTED)
    code = system.tracking.get(new.id).tracking_code
    page.goto("/t")
    look_at(page)
    page.get_by_label("Tracking code").fill(code.lower())
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/t/{code}")
    expect(page.get_by_text("changes by itself")).to_be_visible()
    page.evaluate("window.kept = true")
    look_at(page)
    for status, said in (
        (Status.PROCESSING, "is being prepared"),
        (Status.IN_TRANSIT, "is on its way"),
        (Status.OUT_FOR_DELIVERY, "is out for delivery"),
        (Status.DELIVERED, "has been delivered"),
    ):
        report(system, new, status)
        expect(page.locator("h1")).to_contain_text(said)
        expect(page.locator("#news")).to_contain_text(said)
    assert page.evaluate("window.kept")
    assert page.locator(".steps .done").count() == 5
    assert "MARK" not in page.content()
    look_at(page)


def test_each_event_is_seen_within_a_second(new_page: Callable[..., Page], system: System) -> None:
    """Each is reported as soon as the last was seen: as long as can be before the next look."""
    taken = []
    for _ in range(3):
        page = new_page()
        new = system.place(flow=Flow.REPORTED)
        page.goto(f"/t/{system.tracking.get(new.id).tracking_code}")
        expect(page.get_by_text("changes by itself")).to_be_visible()
        page.evaluate(WATCH)
        for number, status in enumerate(JOURNEY, 1):
            report(system, new, status)
            page.wait_for_function("number => Object.keys(seen).length === number", arg=number)
        events = system.tracking.history(new.id)[1:]
        seen = page.evaluate("Object.values(seen)")
        taken += [
            at - event.recorded_at.timestamp() for at, event in zip(seen, events, strict=True)
        ]
        page.close()
    taken.sort()
    print([f"{1000 * each:.0f} ms" for each in taken])  # noqa: T201
    assert taken[-2] < PROMPT, taken  # a busy machine may be late once


def test_a_phone_another_zone_and_another_language(
    new_page: Callable[..., Page], system: System
) -> None:
    new = system.place(flow=Flow.REPORTED)
    report(system, new, Status.PROCESSING)
    report(system, new, Status.IN_TRANSIT)
    code = system.tracking.get(new.id).tracking_code
    phone = {"width": 360, "height": 740}
    page = new_page(viewport=phone, locale="pt-BR", timezone_id="Asia/Tokyo")
    page.goto(f"/t/{code}")
    expect(page.locator("h1")).to_have_text("A encomenda está a caminho.")
    expect(page.locator("[aria-current=step]")).to_contain_text("Em trânsito")
    shown = page.locator(".history time").first
    local = page.evaluate(
        "at => new Intl.DateTimeFormat('pt-BR', {hour: '2-digit', minute: '2-digit',"
        " timeZone: 'Asia/Tokyo'}).format(new Date(at))",
        shown.get_attribute("datetime"),
    )
    expect(shown).to_have_text(re.compile(f"(hoje|ontem), {local}"))
    look_at(page)
    page.goto("/t/SL-0000-0000-0000-1")
    expect(page.locator("h1")).to_have_text("Não há encomenda com este código")
    look_at(page)


def test_without_scripts_it_tells_the_same(new_page: Callable[..., Page], system: System) -> None:
    new = system.place(flow=Flow.REPORTED)
    page = new_page(java_script_enabled=False)
    page.goto(f"/t/{system.tracking.get(new.id).tracking_code}")
    expect(page.locator("h1")).to_have_text("The order has been received.")
    expect(page.locator(".history time").first).to_contain_text("UTC")
    expect(page.get_by_text("Reload this page for news.")).to_be_visible()
