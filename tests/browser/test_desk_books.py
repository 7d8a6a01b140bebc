"""Books that do not hold, at the desk: somebody changes a balance behind the platform's back, the
reconciliation says so, staff look at it down to its account, and explain it."""

from __future__ import annotations

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.play import uuid_of
from tests.browser.desk import newcomer, press, row_of, seat
from tests.browser.test_pages import Scale, judged
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

RULE = "Stored balances are the sums of their postings"


def test_a_changed_balance_is_found_and_explained(browser: Browser, world: World) -> None:
    account = account_of(world, newcomer(world, "cooked", "40.00").organization)
    with seat(browser, world, "staff") as desk:
        try:
            change(world, account, by=1)
            world.stack.manage("reconcile_books")
            open_break(desk, world, account)
            expect(desk.locator("main dl").first).to_contain_text("40000001")
            assert judged(desk, Scale(desk)) == []
        finally:
            change(world, account, by=-1)
        desk.get_by_label("Who looks after it").fill("The desk")
        desk.get_by_label("What was found").fill("Changed by hand in a drill, and back.")
        press(desk, "Explained: resolve it")
        expect(desk.locator("h1 + .badge")).to_have_text("Resolved")
        world.stack.manage("reconcile_books")
        desk.goto(f"{world.stack.base_url}/staff/books")
        expect(row_of(desk, account)).to_contain_text("The desk")
        expect(desk.locator("dd", has_text="broken")).to_have_count(0)


def account_of(world: World, organization: str) -> str:
    (row,) = world.query(
        "SELECT account_id FROM facts.account WHERE kind = 'tenant' AND owner_id = %s",
        uuid_of(organization),
    )
    return str(row["account_id"])


def change(world: World, account: str, *, by: int) -> None:
    """As only the tables' owner can, with the guards switched off for a moment."""
    with psycopg.connect(world.stack.postgres.url) as database:
        database.execute("ALTER TABLE billing_account DISABLE TRIGGER USER")
        database.execute(
            "UPDATE billing_account SET balance_micro = balance_micro + %s WHERE id = %s",
            (by, account),
        )
        database.execute("ALTER TABLE billing_account ENABLE TRIGGER USER")


def open_break(desk: Page, world: World, account: str) -> None:
    desk.goto(f"{world.stack.base_url}/staff/books")
    expect(desk.locator("dt", has_text=RULE).locator("+ dd")).to_have_text("broken")
    row_of(desk, account).get_by_role("link").click()
    expect(desk.locator("h1")).to_contain_text(RULE)
