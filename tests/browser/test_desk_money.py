"""Money that goes back, as the people on each side of it see it: a refund with its second person,
an incident's credits, a payment that its bank contests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.people import Person
from devstack.play import uuid_of
from kernel.ids import public
from tests.browser.desk import (
    LOOP_S,
    an_hour_later,
    contest,
    moved,
    newcomer,
    paid,
    press,
    reload_until,
    rent_dearest,
    row_of,
    seat,
    second_of_staff,
    used,
)
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

USD = 1_000_000
APPROVE_IT = """(reason) => {
  const row = [...document.querySelectorAll('main tr')].find(
    (each) => each.textContent.includes(reason));
  const form = row.querySelector("form[action$='/decline']");
  return fetch(form.action.replace(/decline$/, 'approve'), {
    method: 'POST', body: new FormData(form)}).then((answer) => answer.status);
}"""


def test_a_large_refund_waits_for_a_second_person_and_reaches_the_card(
    browser: Browser, world: World
) -> None:
    renter = newcomer(world, "refunded", "700.00")
    second_of_staff(world)
    reason = "They leave us for good"
    with seat(browser, world, "staff", refused=frozenset({409})) as desk:
        order_refund(desk, world, renter, reason)
        expect(desk.get_by_text("Above the limit it waits for a second person.")).to_be_visible()
        row = row_of(desk, reason)
        expect(row.locator(".badge")).to_have_attribute("data-state", "waiting")
        expect(row).to_contain_text("by somebody else")
        expect(row.get_by_role("button", name="Approve")).to_have_count(0)
        assert desk.evaluate(APPROVE_IT, reason) == 409, "nobody approves their own order"
        assert refunds_of(world, renter) == [], "nothing moved yet"
    with seat(browser, world, "staff_two") as other:
        other.goto(f"{world.stack.base_url}/staff/returns")
        press(row_of(other, reason), "Approve")
        expect(other.get_by_text("Approved and on its way.")).to_be_visible()
        done = row_of(other, reason).locator(".badge[data-state='succeeded']")
        reload_until(world, other, "/staff/returns", done)
        world.stack.manage("reconcile")
        other.goto(f"{world.stack.base_url}/staff/books")
        expect(other.locator("main .badge--good")).to_have_text("Right")
        expect(other.locator("main .badge--bad")).to_have_count(0)
    (refund,) = refunds_of(world, renter)
    assert (refund["amount"], refund["status"]) == (600_00, "succeeded")
    assert moved(world, renter, "refund") == -600 * USD
    with seat(browser, world, "refunded") as page:
        page.goto(f"{world.stack.base_url}/billing")
        expect(page.locator("#spendable")).to_have_text("$100.00")
        expect(page.locator("#refunds li", has_text=reason)).to_contain_text("Done")
        page.goto(f"{world.stack.base_url}/billing/transactions")
        expect(row_of(page, "Refund").last).to_contain_text("−$600.00")


def order_refund(desk: Page, world: World, renter: Person, reason: str) -> None:
    desk.goto(f"{world.stack.base_url}/staff/returns")
    section = desk.locator("#refund")
    section.get_by_label("Organization").fill(renter.organization)
    section.get_by_label("Amount, USD").fill("600.00")
    section.get_by_label("Reason", exact=True).last.fill(reason)
    press(section, "Order")


def refunds_of(world: World, renter: Person) -> list[dict[str, Any]]:
    """What Stripe sent back of an organization's payment."""
    payment = paid(world, renter)
    return [one for one in world.stripe.objects("refund") if one["payment_intent"] == payment]


POST_AGAIN = """([path, key]) => fetch(path, {method: 'POST', body: new URLSearchParams({
  csrfmiddlewaretoken: document.querySelector('[name=csrfmiddlewaretoken]').value,
  idempotency_key: key})}).then((answer) => answer.status)"""
FAULT = "Lines went dark"


def test_an_incident_is_previewed_and_given_back_once(browser: Browser, world: World) -> None:
    """Its last proofs come in for an hour: the same page in a process for which that is over."""
    renter = newcomer(world, "touched", "200.00")
    rental = rent_dearest(world, renter)
    try:
        with (
            an_hour_later(world) as later,
            seat(browser, world, "staff", refused=frozenset({409})) as desk,
        ):
            world.end(renter, rental["id"])
            use = used(world, rental)
            half = use["price_micro_h"] * use["seconds"] * 50 // (3600 * 100)
            assert half > 10_000, "not a cent: nothing to be seen"
            complaints = complaints_of(desk, later)
            path = name_it(desk, world, later, rental)
            previewed(desk, rental, half)
            desk.goto(world.stack.base_url + path)
            expect(desk.locator("main")).to_contain_text("It can be posted then.")
            expect(desk.get_by_role("button", name="Give it")).to_have_count(0)
            assert moved(world, renter, "incident_credit") == 0, "looking gives nothing"
            desk.goto(later + path)
            key = desk.locator("form[action$='/post'] [name='idempotency_key']").input_value()
            press(desk.locator("main"), "Give it")
            expect(desk.get_by_text("else it is booked now.")).to_be_visible()
            assert complaints == []
            reload_until(world, desk, path, desk.locator("h1 + .badge[data-state='posted']"))
            expect(row_of(desk, rental["id"])).to_contain_text(dollars(half))
            assert desk.evaluate(POST_AGAIN, [f"{path}/post", key]) == 200, "the same, again"
            assert desk.evaluate(POST_AGAIN, [f"{path}/post", "another"]) == 409
    finally:
        world.end(renter, rental["id"])
    assert moved(world, renter, "incident_credit") == half
    with seat(browser, world, "touched") as page:
        page.goto(f"{world.stack.base_url}/billing/transactions")
        expect(row_of(page, "Credit for an incident")).to_contain_text(dollars(half))
        page.goto(f"{world.stack.base_url}/rentals/{rental['id']}")
        expect(page.locator("#rental-timeline")).to_contain_text(FAULT)
        expect(page.locator("#rental-timeline")).to_contain_text("It was our fault.")


def name_it(desk: Page, world: World, later: str, rental: dict[str, Any]) -> str:
    """On the cluster where it ran, over the minutes in which it ran; the path of its page."""
    (ran,) = world.query(
        "SELECT cluster_id, created_ts FROM facts.rental WHERE rental_id = %s",
        uuid_of(rental["id"]),
    )
    desk.goto(f"{later}/staff/incidents")
    desk.get_by_label("What happened").fill(FAULT)
    desk.get_by_label("Note").fill("A switch was replaced.")
    desk.get_by_label("Whose fault").select_option("platform")
    desk.get_by_label("Clusters").select_option(public("cluster", UUID(str(ran["cluster_id"]))))
    for label, moment in (
        ("From, UTC", ran["created_ts"].astimezone(UTC)),
        ("To, UTC", world.now() + timedelta(minutes=1)),
    ):
        desk.get_by_label(label).fill(moment.strftime("%Y-%m-%dT%H:%M"))
    desk.get_by_label("What counts").select_option("whole")
    desk.get_by_label("Percent of the price").fill("50")
    press(desk.locator("main"), "See whom it touched")
    desk.wait_for_url("**/staff/incidents/inc_*")
    return urlsplit(desk.url).path


def previewed(desk: Page, rental: dict[str, Any], micro: int) -> None:
    """The one rental of the one organization, what it is given, and who pays."""
    stats = desk.locator("main .stat")
    for label, value in (
        ("To give back", cents(micro)),
        ("Paid by the platform", cents(micro)),
        ("Paid by owners", "$0.00"),
        ("Rentals", "1"),
    ):
        expect(stats.filter(has_text=label).locator(".stat__value")).to_have_text(value)
    expect(row_of(desk, "Touched Labs")).to_contain_text(dollars(micro))
    expect(row_of(desk, rental["id"])).to_contain_text(dollars(micro))


def cents(micro: int) -> str:
    return f"${micro // 10_000 / 100:,.2f}"


def dollars(micro: int) -> str:
    """As pages write it: every place that is not zero, two at least."""
    whole, _dot, places = f"{micro / USD:,.6f}".partition(".")
    return f"${whole}.{places.rstrip('0').ljust(2, '0')}"


def test_a_contested_payment_is_answered_and_decided_either_way(
    browser: Browser, world: World
) -> None:
    """Two organizations, so that each verdict is seen: one is answered and won, one is lost."""
    people = {verdict: newcomer(world, f"contested-{verdict}", "60.00") for verdict in VERDICTS}
    disputes = {verdict: contest(world, person) for verdict, person in people.items()}
    with seat(browser, world, "staff") as desk:
        for verdict in VERDICTS:
            row = row_of(desk, disputes[verdict]["id"])
            reload_until(world, desk, "/staff/disputes", row)
            expect(row).to_contain_text(f"Contested-{verdict} Labs")
            due = datetime.fromtimestamp(disputes[verdict]["evidence_details"]["due_by"], UTC)
            expect(row.locator("time")).to_have_attribute(
                "datetime", due.isoformat().replace("+00:00", "Z")
            )
        with seat(browser, world, "contested-won", refused=frozenset({403})) as page:
            is_told(world, page)
        answer(world, desk, people["won"], disputes["won"]["id"])
        for verdict in VERDICTS:
            dispute = disputes[verdict]["id"]
            world.stripe.order("decide_dispute", dispute=dispute, status=verdict)
            decided = row_of(desk, dispute).locator(f".badge[data-state='{verdict}']")
            reload_until(world, desk, "/staff/disputes", decided)
        with seat(browser, world, "contested-won") as page:
            free_again(world, page)
            expect(page.locator("#spendable")).to_have_text("$60.00")
        with seat(browser, world, "contested-lost") as page:
            taken(world, page)
            row = row_of(desk, "Contested-lost Labs").filter(has=desk.get_by_role("button"))
            press(row, "Unfreeze")
            expect(desk.get_by_text("It can spend again.")).to_be_visible()
            free_again(world, page)
    assert moved(world, people["won"], "dispute_lost") == 0
    assert moved(world, people["lost"], "dispute_lost") == -60 * USD
    states = {one["id"]: one["status"] for one in world.stripe.objects("dispute")}
    assert {verdict: states[disputes[verdict]["id"]] for verdict in VERDICTS} == {
        "won": "won",
        "lost": "lost",
    }


VERDICTS = ("won", "lost")


def is_told(world: World, page: Page) -> None:
    """On every page, with what it means; and whoever tries to pay more is refused."""
    notice = page.locator("#frozen-notice")
    reload_until(world, page, "/rentals", notice, deadline_s=LOOP_S)
    expect(notice).to_contain_text("A payment of $60.00 is contested at its bank")
    expect(notice).to_contain_text("nothing can be rented, started or topped up")
    page.goto(f"{world.stack.base_url}/billing")
    expect(notice).to_be_visible()
    page.get_by_label("Amount in USD").fill("25.00")
    press(page.locator("#top-up"), "Continue to payment")
    expect(page.locator("main")).to_contain_text("This organization is frozen: a payment is")


def answer(world: World, desk: Page, person: Person, dispute: str) -> None:
    """Staff send what the ledger says for us; Stripe has it, and staff see that."""
    row_of(desk, dispute).get_by_role("link", name=dispute).click()
    expect(desk.locator("main")).to_contain_text("Taken until")
    press(desk.locator("main"), "Submit to Stripe, once")
    expect(desk.get_by_text("Submitted. Stripe gets it in a moment.")).to_be_visible()
    submitted = row_of(desk, dispute).locator(".badge[data-state='under_review']")
    reload_until(world, desk, "/staff/disputes", submitted)
    (found,) = [one for one in world.stripe.objects("dispute") if one["id"] == dispute]
    assert found["evidence"]["customer_email_address"] == person.email


def taken(world: World, page: Page) -> None:
    """What the bank took is off the balance, and the renter reads so."""
    notice = page.locator("#frozen-notice", has_text="The bank took a payment of $60.00 back")
    reload_until(world, page, "/billing", notice, deadline_s=LOOP_S)
    expect(page.locator("#spendable")).to_have_text("$0.00")
    notice.get_by_role("link", name="All transactions").click()
    expect(row_of(page, "Chargeback")).to_contain_text("−$60.00")


def free_again(world: World, page: Page) -> None:
    page.goto(f"{world.stack.base_url}/billing")

    def free() -> bool:
        page.reload()
        return page.locator("#frozen-notice").count() == 0

    world.until(free, "the notice is gone", deadline_s=LOOP_S)
