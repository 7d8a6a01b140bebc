"""The journey of staff in a real browser: queues, a problem report, a fee with its preview, a
refund, a look as a renter, switches, and the books."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import signed_in
from tests.browser.test_pages import Scale, judged
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]


@pytest.fixture
def desk(browser: Browser, world: World) -> Iterator[Page]:
    context = browser.new_context(storage_state=signed_in(browser, world, "staff"))
    context.set_default_timeout(15_000)
    opened = context.new_page()
    complaints = complaints_of(opened, world.stack.base_url)
    yield opened
    context.close()
    assert [each for each in complaints if "403" not in each] == []


def press(page: Page, name: str) -> None:
    page.locator("main").get_by_role("button", name=name, exact=True).first.click()


def test_a_problem_report_reaches_the_desk_and_its_answer_the_renter(
    browser: Browser, desk: Page, world: World
) -> None:
    rental = world.rent(world.people["renter"])
    world.until_state(world.people["renter"], rental["id"], "running", deadline_s=90)
    context = browser.new_context(storage_state=signed_in(browser, world, "renter"))
    try:
        page = context.new_page()
        page.goto(f"{world.stack.base_url}/rentals/{rental['id']}")
        page.get_by_role("link", name="Report a problem").click()
        page.locator("main textarea").fill("It is slower than yesterday.")
        page.locator("main form button").last.click()
        expect(page.locator("main")).to_contain_text("It is slower than yesterday.")

        desk.goto(f"{world.stack.base_url}/staff/")
        row = desk.locator("main tr", has_text="Problems that renters report")
        row.get_by_role("link", name="Open").click()
        report = desk.locator("section.panel", has_text="It is slower than yesterday.")
        report.locator("textarea").fill("Another load on the node; it is gone.")
        report.get_by_role("button", name="Answer", exact=True).click()
        page.goto(f"{world.stack.base_url}/reports")
        expect(page.locator("main")).to_contain_text("it is gone")
    finally:
        context.close()
        world.end(world.people["renter"], rental["id"])


def test_a_fee_is_looked_at_before_it_is_made_and_can_be_withdrawn(
    desk: Page, world: World
) -> None:
    desk.goto(f"{world.stack.base_url}/staff/fees")
    desk.get_by_label("Fee, % of the price").fill("16")
    desk.get_by_label("From, UTC").fill(
        (world.now() + timedelta(days=20)).strftime("%Y-%m-%dT%H:%M")
    )
    desk.get_by_label("Reason").first.fill("Dearer lines")
    desk.locator("main form button.button--primary").first.click()
    expect(desk.get_by_text("Nothing is stored yet.")).to_be_visible()
    assert judged(desk, Scale(desk)) == []
    press(desk, "Make the change")
    expect(desk.get_by_text("The change is made")).to_be_visible()
    press(desk, "Withdraw")
    expect(desk.get_by_text("No change is planned.")).to_be_visible()


def test_a_look_as_a_renter_changes_nothing_and_is_in_their_audit_log(
    browser: Browser, desk: Page, world: World
) -> None:
    organization = world.people["second_renter"].organization
    desk.goto(f"{world.stack.base_url}/staff/organizations/{organization}")
    desk.get_by_label("Why; its people read it").fill("They called about their bill")
    press(desk, "Look")
    expect(desk.locator("#looking")).to_be_visible()
    desk.goto(f"{world.stack.base_url}/billing")
    expect(desk.locator("#spendable")).to_be_visible()
    assert desk.goto(f"{world.stack.base_url}/api-keys").status == 403  # type: ignore[union-attr]
    desk.goto(f"{world.stack.base_url}/billing")
    expect(desk.get_by_role("button", name="Continue to payment")).to_be_disabled()
    refused = desk.evaluate(
        "fetch('/billing/topups', {method: 'POST', body: new FormData(document.querySelector("
        "'form[action=\"/billing/topups\"]'))}).then((answer) => answer.status)"
    )
    assert refused == 403, "whatever the page shows, nothing is changed"
    desk.goto(f"{world.stack.base_url}/rentals")
    press(desk, "End the look")
    expect(desk.locator("#looking")).to_have_count(0)
    context = browser.new_context(storage_state=signed_in(browser, world, "second_renter"))
    try:
        page = context.new_page()
        page.goto(f"{world.stack.base_url}/audit")
        expect(page.locator("main")).to_contain_text("They called about their bill")
    finally:
        context.close()


def test_signs_of_fraud_are_answered_with_one_click(
    browser: Browser, desk: Page, world: World
) -> None:
    person = world.people["second_renter"]
    limits = {"quota_gpus": 64, "spend_limit_per_hour": "200.00"}
    desk.goto(f"{world.stack.base_url}/staff/fraud")
    row = desk.locator("main table tbody tr", has_text="Second Labs")
    expect(row).to_contain_text("0")
    row.get_by_label("Why; its people read it").fill("Many cards in a day")
    row.get_by_role("button", name="Limit").click()
    try:
        expect(desk.locator("main")).to_contain_text("Limited to one GPU at a time.")
        context = browser.new_context(storage_state=signed_in(browser, world, "second_renter"))
        page = context.new_page()
        page.goto(f"{world.stack.base_url}/settings")
        expect(page.locator("main")).to_contain_text("1 GPU")
        expect(page.locator("main")).to_contain_text("$10.00 per hour")
        context.close()
    finally:
        world.people["staff"].api.post(f"/staff/organizations/{person.organization}/limit", limits)


def test_a_switch_stops_new_rentals_and_is_turned_back(desk: Page, world: World) -> None:
    desk.goto(f"{world.stack.base_url}/staff/switches")
    desk.locator("#id_name").select_option(label="Stop new rentals")
    desk.get_by_label("Why").fill("We look into it")
    press(desk, "Turn on")
    expect(desk.locator("#on")).to_contain_text("We look into it")
    press(desk, "Turn off")
    expect(desk.locator("#on")).not_to_contain_text("We look into it")
    expect(desk.locator("#off")).to_contain_text("We look into it")


def test_the_books_the_capacity_and_the_runs_are_there(desk: Page, world: World) -> None:
    for path in ("books", "capacity", "payouts", "returns", "incidents", "fraud", "unknown"):
        desk.goto(f"{world.stack.base_url}/staff/{path}")
        expect(desk.get_by_role("heading", level=1)).to_be_visible()
    desk.goto(f"{world.stack.base_url}/staff/books")
    expect(desk.locator("main .badge--bad")).to_have_count(0)
    organization = world.people["second_renter"].organization
    desk.goto(f"{world.stack.base_url}/staff/returns")
    section = desk.locator("#refunds, section[id*='refund']").first
    section.get_by_label("Organization").fill(organization)
    section.get_by_label("Amount, USD").fill("1.00")
    section.get_by_label("Reason").last.fill("They asked for it")
    section.get_by_role("button", name="Order").click()
    expect(desk.locator("main")).to_contain_text("They asked for it")
