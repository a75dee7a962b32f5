"""Signing in with a real browser."""

from collections.abc import Callable

from browsing import System, look_at
from playwright.sync_api import Page


def test_somebody_signs_in_with_the_keyboard_alone(page: Page, system: System) -> None:
    page.goto("/dashboard/nowhere")
    look_at(page)
    page.keyboard.type(system.reader)  # the field has the focus
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="There is nothing here").wait_for()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    look_at(page)


def test_a_narrow_page_in_portuguese(new_page: Callable[..., Page]) -> None:
    page = new_page(locale="pt-BR", viewport={"width": 360, "height": 640})
    page.goto("/dashboard/sign-in")
    page.get_by_role("heading", name="Entrar").wait_for()
    look_at(page)
