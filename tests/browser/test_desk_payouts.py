"""What cards earn until it is at their owner's bank: staff decide, the owner reads and keeps it.

Two things take days and are not waited for: shares mature after a week, which the operator's own
setting makes now for one run of the loop, and a new payout account is held for three days, for
which there is no action and whose end is set in the database.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.people import PASSWORD, app_code
from devstack.play import uuid_of
from tests.browser.desk import (
    newcomer,
    press,
    reload_until,
    rent_dearest,
    row_of,
    seat,
    used,
)
from tests.browser.people import stay_signed_in
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

USD = 1_000_000
OWNER = "Campus Computing"
# Available at Stripe at once, as money of other cards is days later: payouts are made of it.
AT_ONCE = "4000000000000077"
# Eight such cards are worth the smallest payout, and what is kept of it, in some seconds.
DEAR, ENOUGH_S = "990.0000", 18


def test_what_cards_earned_is_paid_out_and_stated(browser: Browser, world: World) -> None:
    share = earn(world)
    with seat(browser, world, "staff", refused=frozenset({409})) as desk:
        matures_when_staff_let_it(world, desk)
        due = balance_of(world, "provider_due")
        assert due >= share
        reserve = due // 10
        amount = (due - reserve) // 10_000 * 10_000
        desk.goto(f"{world.stack.base_url}/staff/payouts")
        planned = desk.locator("#planned tbody tr", has_text=OWNER)
        for told in ("There is no payout account.", cents(due), cents(reserve), "$0.00"):
            expect(planned).to_contain_text(told)
        with seat(browser, world, "provider") as page:
            opens_an_account(world, page)
            lift_the_hold(world, desk)
            desk.goto(f"{world.stack.base_url}/staff/payouts")
            expect(planned).to_contain_text(cents(amount))
            expect(planned.locator(".table__sub")).to_have_count(0)
            press(desk.locator("main"), "Make the run")
            expect(desk.get_by_text("Decided.")).to_be_visible()
            line = row_of(desk, cents(amount)).locator(".badge[data-state='sent']")
            reload_until(world, desk, "/staff/payouts", line)
            (transfer,) = world.stripe.objects("transfer")
            assert transfer["amount"] == amount // 10_000
            reads_it(world, page, amount)
            keeps_the_statement(world, page, amount)


def earn(world: World) -> int:
    """Some seconds of eight cards at a price that makes them worth a payout; the owner's share."""
    renter = newcomer(world, "earner", "9500.00", card=AT_ONCE)
    world.people["staff"].api.post(
        f"/staff/organizations/{renter.organization}/limit", {"spend_limit_per_hour": "9000.00"}
    )
    with dear(world):
        rental = rent_dearest(world, renter)
    ready = world.wait_pod(rental["id"], "ready").ready_at
    assert ready is not None
    world.until(
        lambda: (world.now() - ready).total_seconds() > ENOUGH_S,
        "it is worth a payout",
        deadline_s=ENOUGH_S + 5,
    )
    world.end(renter, rental["id"])
    return used(world, rental)["share"]


@contextmanager
def dear(world: World) -> Iterator[None]:
    """The dearest whole machine of the partner costs much more inside; as before afterwards."""
    api = world.people["provider"].api
    query = "/offers?ownership=partner&gpus=8&order=-price&limit=1"
    (offer,) = api.get(query)["items"]
    path, before = f"/provider/offers/{offer['id']}", offer["price_per_gpu_hour"]
    api.patch(path, {"price_per_gpu_hour": DEAR})
    try:
        yield
    finally:
        api.patch(path, {"price_per_gpu_hour": before})


def matures_when_staff_let_it(world: World, desk: Page) -> None:
    """Nobody is paid of what a renter used whose first payment has not settled."""
    desk.goto(f"{world.stack.base_url}/staff/payouts")
    press(desk.locator("main"), "Make the run")
    expect(desk.locator("main")).to_contain_text("No provider can be paid now")
    mature(world)
    assert balance_of(world, "provider_due") == 0, "it waits for staff"
    desk.goto(f"{world.stack.base_url}/staff/payouts")
    row = row_of(desk, "Earner Labs")
    expect(row).to_contain_text("$9,500.00")
    row.get_by_label("What you found").fill("Paid by a card of their own")
    press(row, "Release")
    expect(desk.get_by_text("What this renter used matures now.")).to_be_visible()
    mature(world)


def mature(world: World) -> None:
    """The loop, once, as an operator runs it for whom a share matures at once."""
    world.stack.manage(
        *("shell", "-c", "from billing.tasks import maturity; maturity()"),
        env={"GPUYARD_MATURITY_DAYS": "0"},
    )


def balance_of(world: World, *kinds: str) -> int:
    """What the partner has on these accounts, in millionths."""
    (row,) = world.query(
        "SELECT coalesce(sum(e.amount_micro), 0)::bigint AS total FROM facts.entry e"
        " JOIN facts.account a USING (account_id) WHERE a.kind = ANY(%s) AND a.owner_id = %s",
        list(kinds),
        uuid_of(world.people["provider"].api.get("/provider")["id"]),
    )
    return int(row["total"])


def opens_an_account(world: World, page: Page) -> None:
    """With a second factor, on our page and then on Stripe's."""
    page.goto(f"{world.stack.base_url}/provider/payouts")
    expect(page.locator("main")).to_contain_text("There is no payout account.")
    expect(page.locator("main")).to_contain_text("of it in reserve for thirty days")
    page.get_by_role("link", name="Switch on your second factor").click()
    page.get_by_label("Your password").fill(PASSWORD)
    press(page.locator("main"), "Go on")
    secret = page.locator("#secret").inner_text()
    page.get_by_label("Code of your app").fill(app_code(secret))
    press(page.locator("main"), "Switch on")
    expect(page.locator("main")).to_contain_text("Your second factor is on.")
    world.people["provider"].app_secret = secret
    stay_signed_in(page, "provider")
    page.goto(f"{world.stack.base_url}/provider/payouts")
    account = page.locator("#account")
    account.get_by_label("Country").fill("SG")
    account.get_by_label("Your password").fill(PASSWORD)
    account.get_by_label("Code of your app").fill(app_code(secret, ahead=1))
    press(account, "Open a payout account")
    page.get_by_role("link", name="Go on at Stripe").click(timeout=30_000)  # it comes by itself
    page.get_by_label("Account holder").fill(OWNER)
    page.get_by_label("Account number").fill("000123456789")
    page.get_by_role("button", name="Agree and submit").click()
    page.wait_for_url("**/provider/payouts")
    works = page.locator("#account .badge[data-state='active']")
    reload_until(world, page, "/provider/payouts", works)


def lift_the_hold(world: World, desk: Page) -> None:
    """Three days for whoever reads the mail about it; nobody can shorten them on a page."""
    desk.goto(f"{world.stack.base_url}/staff/payouts")
    planned = desk.locator("#planned tbody tr", has_text=OWNER)
    expect(planned).to_contain_text("The payout account is new or was opened for a change")
    world.query("UPDATE billing_payoutaccount SET held_until = app_now() RETURNING provider_ref")


def reads_it(world: World, page: Page, amount: int) -> None:
    page.goto(f"{world.stack.base_url}/provider/payouts")
    row = page.locator("#payouts tbody tr", has_text=cents(amount))
    expect(row).to_contain_text("Sent to your bank")
    stat = page.locator("main .stat", has_text="Paid out").locator(".stat__value")
    expect(stat).to_have_text(cents(amount))


def keeps_the_statement(world: World, page: Page, amount: int) -> None:
    """It adds up, is what the ledger says, and so is the file."""
    page.locator("main a[href^='/provider/statements/']").first.click()
    values = page.locator("main .facts--sum dd").all_inner_texts()
    opening, shares, credits, payouts, closing = map(number, values)
    lines = [number(text) for text in page.locator("main td.num").all_inner_texts()]
    assert opening + sum(lines) == closing == opening + shares + credits + payouts
    assert payouts == Decimal(-amount) / USD
    left = Decimal(balance_of(world, "provider_pending", "provider_due")) / USD
    assert closing == left, "as the ledger says"
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    rows = rows_of(download.value.path())
    assert [row["kind"] for row in (rows[0], rows[-1])] == ["opening", "closing"]
    assert [Decimal(row["amount"]) for row in rows[1:-1]] == lines
    assert Decimal(rows[-1]["amount"]) == closing


def rows_of(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def number(text: str) -> Decimal:
    """An amount as pages write it."""
    return Decimal(text.replace("−", "-").replace("$", "").replace(",", ""))


def cents(micro: int) -> str:
    return f"${micro // 10_000 / 100:,.2f}"
