"""Dead letters in a real browser: a group is seen, replayed for a reason, and delivered."""

from collections.abc import Callable, Iterator

import pytest
from browsing import System, look_at, sign_in
from observing import wait_until
from playwright.sync_api import Page

from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import Flow, NewOrder, Status
from slimtrack.use_cases.dead_letters import DeadLetters

PATH = "/dashboard/dead-letters"


@pytest.fixture(autouse=True)
def dead_letters(system: System) -> Iterator[DeadLetters]:
    """The dead letters of the system, of which there are none before and after."""
    found = DeadLetters(system.pool, wake_up=lambda: None)
    put_away = OperatorAction(operator="tester", reason="seen")
    found.discard(Selection(), action=put_away)
    yield found
    found.discard(Selection(), action=put_away)


def kill(system: System, dead_letters: DeadLetters, *names: str) -> list[NewOrder]:
    """Place orders that fail always; wait until they are given up."""
    orders = [system.place(reference=f"test:fails_always/{name}") for name in names]
    wait_until(lambda: dead_letters.count(Selection()) == len(names))
    return orders


def bury(system: System, *names: str) -> None:
    """Make dead letters as if the orders of these names had failed."""
    with system.pool.connection() as connection:
        for name in names:
            order = system.place(reference=name, flow=Flow.REPORTED)  # without a row
            connection.execute(
                "INSERT INTO dead_letters (outbox_id, created_at, stage, order_id, from_sequence,"
                "  publications, attempts, actor, queue, error_type, error, traceback, fingerprint,"
                "  correlation_id)"
                " VALUES (1, now(), 'processing', %s, 1, 1, 5, 'start_processing',"
                "  'orders.processing', 'CarrierError', 'No carrier goes to this street.',"
                "  'Traceback …', 'f', 'c-1')",
                (order.id,),
            )


def test_an_operator_replays_a_group_and_sees_it_delivered(
    page: Page, system: System, dead_letters: DeadLetters
) -> None:
    orders = kill(system, dead_letters, "a", "b")
    with system.pool.connection() as connection:  # what broke is mended
        connection.execute("UPDATE dead_letters SET outcome = NULL")
    sign_in(page, system.operator, path=PATH)
    page.get_by_text("2 in all").wait_for()
    look_at(page)

    page.get_by_role("button", name="Replay this group").first.click()
    page.get_by_role("heading", name="Replay 2?").wait_for()
    look_at(page)
    page.get_by_label("Why?").fill("the carrier answers again")
    page.get_by_role("button", name="Replay 2").click()

    page.get_by_text("2 replayed").wait_for()
    page.get_by_text("All of them have an outcome.").wait_for()
    page.get_by_text("the carrier answers again").wait_for()
    look_at(page)
    wait_until(
        lambda: {system.tracking.get(order.id).status for order in orders} == {Status.DELIVERED}
    )
    page.reload()
    page.get_by_text("2 of them delivered").wait_for()


def test_one_letter_is_edited_and_a_wrong_payload_explained(page: Page, system: System) -> None:
    bury(system, "c")
    sign_in(page, system.operator, path=PATH)
    page.locator("td[data-label='#'] a").click()
    payload = page.locator("#payload")
    payload.fill("[]")
    page.get_by_label("Why?").fill("wrong street")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("The payload is no JSON object").wait_for()
    look_at(page)
    payload.fill('{"street": "Rua Nova"}')
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("cell", name="edited").wait_for()
    look_at(page)


def test_who_may_only_read_is_refused_even_by_hand_and_reads_it_narrow(
    new_page: Callable[..., Page], system: System, dead_letters: DeadLetters
) -> None:
    bury(system, "d", "e")
    page = new_page(viewport={"width": 360, "height": 640})
    sign_in(page, system.reader, path=PATH)
    page.get_by_text("2 in all").wait_for()
    assert page.get_by_role("button", name="Replay").count() == 0
    look_at(page)
    token = page.locator("meta[name=csrf-token]").get_attribute("content")
    form: dict[str, str | float | bool] = {"csrf": token or "", "action": "discard", "reason": "x"}
    for part in ("preview", "decide"):
        assert page.request.post(f"{PATH}/{part}", form=form).status == 403
    assert dead_letters.count(Selection()) == 2


def test_all_of_a_page_are_ticked_and_discarded_on_a_telephone(
    new_page: Callable[..., Page], system: System
) -> None:
    bury(system, "f", "g")
    page = new_page(viewport={"width": 360, "height": 640})
    sign_in(page, system.operator, path=PATH)
    look_at(page)
    page.get_by_label("Select all on this page").check()
    page.get_by_role("button", name="Discard selected").click()
    page.get_by_role("heading", name="Discard 2?").wait_for()
    look_at(page)
    page.get_by_label("Why?").fill("of no use")
    page.get_by_role("button", name="Discard 2").click()
    page.get_by_text("2 discarded").wait_for()
    page.goto("/dashboard/actions")
    page.get_by_text("of no use").wait_for()
    look_at(page)
