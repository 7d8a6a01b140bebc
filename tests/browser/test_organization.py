"""An organization in the browser: a stop with its consequences and a start, a budget that refuses,
a colleague who is invited and takes part, and the log that says who did what."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.people import PASSWORD, mailed_token
from tests.browser.desk import press, seat
from tests.browser.test_pages import Scale, faults_of
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

START_MS = 90_000


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """As somebody of the organization with the most money; a refusal's page has its status."""
    with seat(browser, world, "renter", refused=frozenset({403})) as opened:
        yield opened


def test_a_stop_says_what_it_means_and_a_start_brings_it_back(page: Page, world: World) -> None:
    person = world.people["renter"]
    rental = world.rent(person)
    world.until_state(person, rental["id"], "running", deadline_s=90)
    try:
        page.goto(f"{world.stack.base_url}/rentals/{rental['id']}")
        page.get_by_role("link", name="Stop", exact=True).click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("The meter stops the moment you confirm")
        expect(dialog).to_contain_text(
            re.compile("free in .* now|No such card is free|start at once")
        )
        dialog.get_by_role("button", name="Stop").click()
        badge = page.locator("#rental-head .badge")
        expect(badge).to_have_attribute("data-state", "stopped", timeout=START_MS)
        expect(page.locator("#rental-stats")).to_contain_text("nothing is charged")
        assert faults_of(page, Scale(page), f"{page.url}/start") == []
        page.go_back()
        page.get_by_role("link", name="Start", exact=True).click()
        page.get_by_role("dialog").last.get_by_role("button", name="Start").click()
        expect(badge).to_have_attribute("data-state", "running", timeout=START_MS)
    finally:
        world.end(person, rental["id"])


def test_a_budget_refuses_what_it_cannot_bear_and_says_so(page: Page, world: World) -> None:
    base = world.stack.base_url
    page.goto(f"{base}/billing/budgets")
    page.get_by_label("Per calendar month, USD").fill("0.01")
    page.get_by_label("When it is spent").select_option("block_new")
    press(page, "Add")
    row = page.locator("main table tbody tr", has_text="Prepaid Labs")
    try:
        expect(row).to_contain_text("refuse new rentals")
        page.goto(base)
        page.locator("#results tbody tr a.button").first.click()
        page.wait_for_url("**/offers/ofr_*")
        expect(page.locator("#quote")).to_contain_text("per hour, all in")
        page.locator("label.option", has_text="No SSH").click()
        press(page, "Rent now")
        refusal = page.locator("[data-slug=budget_exceeded]")
        expect(refusal).to_contain_text("Nothing was rented.")
        expect(refusal).to_contain_text("Raise the budget")
    finally:
        page.goto(f"{base}/billing/budgets")
        row.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("No budget yet")).to_be_visible()


def test_a_colleague_joins_by_mail_and_the_log_says_who_did_what(
    browser: Browser, page: Page, world: World
) -> None:
    base, email = world.stack.base_url, "colleague@example.com"
    page.goto(f"{base}/team")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Role").select_option(label="Viewer")
    press(page, "Send the invitation")
    expect(page.locator("main")).to_contain_text(email)

    context = browser.new_context()
    try:
        theirs = context.new_page()
        complaints = complaints_of(theirs, base)
        theirs.goto(f"{base}/invitation?token={mailed_token(world.stack.mail, email)}")
        expect(theirs.get_by_role("heading", level=1)).to_have_text("Join Prepaid Labs")
        theirs.get_by_label("Your name").fill("A Colleague")
        theirs.get_by_label("Password").fill(PASSWORD)
        theirs.get_by_label("I accept the terms").click()
        press(theirs, "Make an account and join")
        expect(theirs.get_by_text("You belong to the organization now.")).to_be_visible()
        theirs.goto(f"{base}/billing")
        expect(theirs.locator("#spendable")).to_be_visible()
        expect(theirs.get_by_role("button", name="Continue to payment")).to_be_disabled()
        assert complaints == []
    finally:
        context.close()

    page.goto(f"{base}/team")
    member = page.locator("main tr", has_text=email)
    expect(member).to_contain_text("Viewer")
    page.goto(f"{base}/audit")
    log = page.locator("main table")
    expect(log).to_contain_text("member.join")
    expect(log.locator("tr", has_text="invitation.create")).to_contain_text(
        world.people["renter"].email
    )
    page.goto(f"{base}/team")
    member.get_by_role("link", name="Change").click()
    press(page, "Remove")
    page.wait_for_url("**/team")
    expect(page.locator("main tr", has_text=email)).to_have_count(0)
