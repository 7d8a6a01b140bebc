"""A card of one's own: saved on Stripe's page, then charged by itself whenever little is left."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import Hand, give_card, sign_up
from tests.browser.test_pages import Scale, judged
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

# The balance is looked at once a minute; a charge and its webhook take seconds.
CHARGED_S = 100.0


def save_card(hand: Hand, world: World) -> None:
    page = hand.page
    page.goto(f"{world.stack.base_url}/billing")
    expect(page.locator("#cards")).to_contain_text("No card saved")
    hand.press("Save a card")
    page.wait_for_url(f"{world.stack.stripe_url}/**")
    give_card(page)
    hand.click(page.get_by_role("button", name="Save card"))
    page.wait_for_url(f"{world.stack.base_url}/billing/cards/**")
    expect(page.locator("main")).to_contain_text("card is saved", timeout=30_000)
    assert judged(page, Scale(page)) == []


def test_a_saved_card_tops_up_by_itself_until_it_is_told_not_to(page: Page, world: World) -> None:
    complaints = complaints_of(page, world.stack.base_url)
    hand = Hand(page)
    page.goto(f"{world.stack.base_url}/sign-up")
    sign_up(hand, world, "saver@example.com", "Saver Labs")
    save_card(hand, world)

    page.goto(f"{world.stack.base_url}/billing")
    expect(page.locator("#cards")).to_contain_text("4242")
    expect(page.locator("#spendable")).to_have_text("$0.00")
    form = page.locator("#auto-topup")
    form.get_by_label("Charge my card when the balance is low").check()
    form.get_by_label("When less than this is left, USD").fill("10.00")
    form.get_by_label("Up to this, USD").fill("25.00")
    form.get_by_label("At most in 24 hours, USD").fill("60.00")
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#auto-topup")).to_contain_text("in the last 24 hours")

    def credited() -> bool:
        page.reload()
        return page.locator("#spendable").inner_text() == "$25.00"

    world.until(credited, "the card is charged", deadline_s=CHARGED_S)
    expect(page.locator("#auto-topup")).to_contain_text("$25.00")
    page.goto(f"{world.stack.base_url}/billing/transactions")
    expect(page.locator("main table tbody tr")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("$25.00")

    page.goto(f"{world.stack.base_url}/billing")
    form.get_by_label("Charge my card when the balance is low").uncheck()
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#auto-topup")).to_contain_text(
        "What runs stops when the balance is used up"
    )
    assert complaints == []
