"""The whole journey of a renter, by mouse and keyboard in a real browser on the real stack.

From looking without an account to a running card, its charges and the balance, with every step
shown by the page itself and compared with the books; nothing may complain in the console.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from devstack.play import SSH_KEY, uuid_of
from tests.browser.people import Hand, give_card, sign_up
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

TOPPED_UP = Decimal("50.00")
# A start takes seconds; a machine that also runs two control planes may need more.
START_MS = 90_000
# What a person who knows what they want needs from the catalogue to a running card, sign-up and
# payment included. More would be a worse product.
MOST_CLICKS = 11


def top_up(hand: Hand, world: World) -> None:
    """Through Stripe's hosted page, where the person is taken without a further click."""
    page = hand.page
    hand.click(page.locator("#missing a"))  # the order says what it needs, and where to pay it
    page.get_by_label("Amount in USD").fill(str(TOPPED_UP))
    hand.press("Continue to payment")
    page.wait_for_url(f"{world.stack.stripe_url}/**")
    give_card(page)
    hand.click(page.get_by_role("button", name=re.compile("^Pay ")))
    page.wait_for_url("**/billing/topups/**")
    expect(page.get_by_text("Your balance is credited.")).to_be_visible(timeout=30_000)


def choose(hand: Hand) -> None:
    """An offer by a filter that is in the address afterwards."""
    page = hand.page
    card = page.get_by_label("Card", exact=True)
    slug = str(card.locator("option[value^='nvidia']").first.get_attribute("value"))
    with page.expect_response(lambda answer: "HX-Push-Url".lower() in answer.headers):
        card.select_option(slug)
    page.wait_for_url(f"**/?accelerator={slug}")
    expect(page.locator("#results tbody tr").first).to_be_visible()
    hand.click(page.locator("#results tbody tr a.button").first)
    page.wait_for_url("**/offers/ofr_*")


def rent(hand: Hand) -> str:
    """With a live quote; the rental's id."""
    page = hand.page
    expect(page.locator("#quote")).to_contain_text("per hour, all in")
    one = page.locator("#quote strong").inner_text()
    with page.expect_response("**/quote"):
        hand.click(page.locator("label.option--number", has_text="2").first)
    expect(page.locator("#quote strong")).not_to_have_text(one)
    page.get_by_label("Public key").fill(SSH_KEY)
    page.get_by_label("Name").fill("journey")
    hand.press("Rent now")
    page.wait_for_url("**/rentals/ren_*")
    return urlsplit(page.url).path.rsplit("/", 1)[1]


def state(page: Page) -> Locator:
    return page.locator("#rental-head .badge")


def test_from_a_look_to_a_running_card_and_its_bill(page: Page, world: World) -> None:
    complaints = complaints_of(page, world.stack.base_url)
    hand = Hand(page)
    page.goto(world.stack.base_url)
    choose(hand)
    offer = urlsplit(page.url).path
    hand.follow("Sign up to rent")
    sign_up(hand, world, "journey@example.com", "Journey Labs")
    assert urlsplit(page.url).path == offer, "back where the person wanted to be"
    top_up(hand, world)
    hand.follow("Back to your order")
    assert urlsplit(page.url).path == offer, "and here again, with money"
    rental_id = rent(hand)

    page.evaluate("window.unchanged = true")
    expect(state(page)).to_have_attribute("data-state", "running", timeout=START_MS)
    assert page.evaluate("window.unchanged"), "the page must follow without being loaded again"
    assert hand.clicks <= MOST_CLICKS, f"{hand.clicks} clicks"
    expect(page.locator("#rental-timeline")).to_contain_text("Card count, model and memory")
    # The clusters of this stack have no relay, and its platform no gateway.
    expect(page.locator("#rental-access")).to_contain_text("Your keys are kept and open nothing")

    let_it_run(page, world)
    terminate(hand, page)
    charged = settled(page, world, rental_id)
    look_at_evidence(hand, page)
    report_it(hand, page)
    balance_is_right(page, world, charged)
    assert complaints == []


def let_it_run(page: Page, world: World) -> None:
    """Until at least two whole seconds are proven: only whole ones are charged."""
    shown = page.locator("#rental-facts dt", has_text="Proven ready").locator("+ dd time")
    ready_at = datetime.fromisoformat(str(shown.get_attribute("datetime")))
    world.until(lambda: world.now() - ready_at > timedelta(seconds=3), "three seconds have passed")


def terminate(hand: Hand, page: Page) -> None:
    hand.follow("Terminate")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This cannot be undone")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    hand.follow("Terminate")
    page.get_by_role("dialog").last.get_by_role("button", name="Terminate").click()
    expect(state(page)).to_have_attribute("data-state", "terminated", timeout=START_MS)


def settled(page: Page, world: World, rental_id: str) -> int:
    """Wait until the page has stopped asking; what the ledger charged, in micro-units."""
    expect(page.locator("#poll[hx-get]")).to_have_count(0, timeout=START_MS)
    rows = world.query(
        "SELECT amount_micro FROM facts.usage WHERE rental_id = %s ORDER BY from_ts",
        uuid_of(rental_id),
    )
    assert rows, "a card that ran was charged"
    expect(page.locator("#rental-charges tbody tr")).to_have_count(len(rows))
    charged = sum(int(row["amount_micro"]) for row in rows)
    shown = Decimal(page.locator("#rental-stats .stat__value").first.inner_text().lstrip("$"))
    assert shown * 1_000_000 == charged, "the page shows what the ledger holds"
    return charged


def look_at_evidence(hand: Hand, page: Page) -> None:
    hand.click(page.locator("#rental-charges a.button").first)
    expect(page.get_by_role("heading", name=re.compile("What justifies"))).to_be_visible()
    expect(page.get_by_text("Proof that it worked")).to_be_visible()
    expect(page.locator("td", has_text="MiB")).to_have_count(2)  # one row per rented card
    seen = page.locator("#observations tbody tr")
    assert seen.count() > 0
    assert seen.locator("time").count() == seen.count(), "each observation has its time"


def report_it(hand: Hand, page: Page) -> None:
    """From the line of the bill to a person, with the figures going along by themselves."""
    amount = str(page.locator("h1").inner_text()).rsplit(" ", 1)[1]
    hand.follow("Report a problem")
    expect(page.locator("main")).to_contain_text(amount)
    page.locator("main textarea").fill("It was slower than the day before.")
    hand.press("Send")
    page.wait_for_url("**/reports*")
    expect(page.locator("main")).to_contain_text("It was slower than the day before.")


def balance_is_right(page: Page, world: World, charged: int) -> None:
    page.goto(f"{world.stack.base_url}/billing")
    left = (TOPPED_UP - Decimal(charged) / 1_000_000).quantize(Decimal("0.01"), ROUND_FLOOR)
    expect(page.locator("#spendable")).to_have_text(f"${left}")
    expect(page.locator("main")).to_contain_text("Usage")
