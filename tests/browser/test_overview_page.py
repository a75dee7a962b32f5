"""The overview in a real browser: what goes wrong is there without a reload, and what is mended."""

from collections.abc import Callable

from browsing import System, look_at, sign_in
from playwright.sync_api import Page

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.use_cases.dead_letters import DeadLetters


def put_away_all(system: System) -> None:
    dead_letters = DeadLetters(system.pool, wake_up=lambda: None)
    dead_letters.discard(Selection(), action=OperatorAction(operator="tester", reason="seen"))


def test_a_poison_order_is_on_the_overview_without_a_reload(page: Page, system: System) -> None:
    put_away_all(system)
    sign_in(page, system.reader)
    page.get_by_text("All is well.").wait_for()
    page.locator(".plots canvas").nth(3).wait_for()
    look_at(page)

    poison = system.place(reference="test:fails_always/overview")
    code = system.tracking.get(poison.id).tracking_code
    order = page.get_by_role("link", name=code)
    order.wait_for()
    assert order.get_attribute("href") == f"/dashboard/orders/{poison.id}"
    page.get_by_role("link", name="Dead letters wait for a decision: 1.").wait_for()
    assert page.get_by_text("All is well.").is_hidden()
    look_at(page)

    put_away_all(system)
    page.get_by_text("All is well.").wait_for()
    order.wait_for(state="detached")


def test_a_narrow_overview_in_portuguese(new_page: Callable[..., Page], system: System) -> None:
    put_away_all(system)
    page = new_page(locale="pt-BR", viewport={"width": 360, "height": 640})
    page.goto("/dashboard")
    page.get_by_label("Chave").fill(system.operator)
    page.keyboard.press("Enter")
    poison = system.place(reference="test:fails_always/panorama")
    page.get_by_role("link", name="Mensagens mortas esperam uma decisão: 1.").wait_for()
    page.get_by_role("link", name=system.tracking.get(poison.id).tracking_code).wait_for()
    page.locator(".plots canvas").nth(3).wait_for()
    look_at(page)
    put_away_all(system)
    page.get_by_text("Está tudo bem.").wait_for()
