"""What the dashboard is for: somebody sees what broke, and mends it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from browsing import System, look_at, sign_in
from playwright.sync_api import Page

from slimtrack.domain.order import NewOrder

REFERENCE = "fragile/1"


@contextmanager
def broken(system: System) -> Iterator[None]:
    """Have every order of the reference fail on its way, until the end of the block."""
    with system.pool.connection() as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'The label printer is out of paper.'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER fail BEFORE UPDATE ON orders FOR EACH ROW"
            f" WHEN (NEW.reference = '{REFERENCE}' AND NEW.status = 'in_transit')"
            " EXECUTE FUNCTION fail()"
        )
    try:
        yield
    finally:
        with system.pool.connection() as connection:
            connection.execute("DROP FUNCTION fail CASCADE")


def find_on_the_overview(page: Page, system: System, poison: NewOrder) -> None:
    page.get_by_role("link", name=system.tracking.get(poison.id).tracking_code).click()
    page.wait_for_url(f"**/dashboard/orders/{poison.id}")


def test_an_operator_finds_a_poison_order_replays_it_and_sees_it_delivered(
    page: Page, new_page: Callable[..., Page], system: System
) -> None:
    with broken(system):
        poison = system.place(reference=REFERENCE)
        sign_in(page, system.operator)
        find_on_the_overview(page, system, poison)
        page.get_by_text("RaiseException").first.wait_for()
        look_at(page)
        page.locator(f"a[href='/dashboard/dead-letters?order={poison.id}']").click()
        page.get_by_text("1 in all").wait_for()
        look_at(page)

        # Whoever may only read sees the same, and is refused by the server, not by the page alone.
        reader = new_page()
        sign_in(reader, system.reader, path=f"/dashboard/dead-letters?order={poison.id}")
        reader.get_by_text("1 in all").wait_for()
        assert reader.get_by_role("button", name="Replay").count() == 0
        refused = reader.evaluate(
            """async (order) => {
                const csrf = document.querySelector("meta[name=csrf-token]").content;
                const operation = "dashboard-" + "a".repeat(16);
                const said = {csrf, operation, order, action: "replay", reason: "x"};
                const given = {method: "POST", body: new URLSearchParams(said)};
                return (await fetch("/dashboard/dead-letters/decide", given)).status;
            }""",
            str(poison.id),
        )
        assert refused == 403
        reader.get_by_role("link", name="Overview").click()
        find_on_the_overview(reader, system, poison)
        assert reader.locator("form[method=post][action*=cancel]").count() == 0

        page.get_by_role("button", name="Replay all 1").click()
        page.get_by_label("Why?").fill("There is paper again.")
        look_at(page)
    page.get_by_role("button", name="Replay 1").click()
    page.get_by_text("All of them have an outcome.").wait_for()
    look_at(page)
    # The page that was open all the while knows it too.
    reader.get_by_role("heading", name="Delivered").wait_for()
    page.goto("/dashboard/actions")
    page.get_by_text("There is paper again.").wait_for()
    look_at(page)
