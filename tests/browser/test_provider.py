"""The journey of an owner of cards in a real browser: from an application to cards on sale, and
what an owner does with them. The cluster is simulated; everything between it and the page is real.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.kube.sim.stack import SimStack
from tests.browser.people import Hand, sign_up, signed_in
from tests.browser.test_pages import Scale, judged
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

NAME = "dc-campus"
FLEET = [{"card": "l40s", "nodes": 2, "cards": 4, "cpu": 64, "memory_gib": 512, "disk_gib": 3500}]
# From the hand-over to a passed preflight and derived offers: looks come every few seconds.
LOOK_MS = 90_000


@pytest.fixture
def campus(tmp_path: Path) -> Iterator[SimStack]:
    """A cluster that the platform has never heard of, with the bundle applied."""
    stack = SimStack(tmp_path / "kube", names=[NAME], fleets={NAME: FLEET}, reapers=True)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


def test_from_an_application_to_cards_on_sale(
    browser: Browser, page: Page, world: World, campus: SimStack
) -> None:
    complaints = complaints_of(page, world.stack.base_url)
    hand = Hand(page)
    page.goto(f"{world.stack.base_url}/sign-up?next=/provider/join")
    sign_up(hand, world, "campus@example.com", "Campus Cards")
    apply(hand)
    approve(browser, world, campus)
    place(hand)
    hand_over(hand, campus)
    price(hand)
    page.goto(f"{world.stack.base_url}/?accelerator=nvidia-l40s&region=us-west")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page.locator("#results tbody tr")).to_contain_text("$0.77")
    leave(hand, world)
    page.goto(f"{world.stack.base_url}/?accelerator=nvidia-l40s&region=us-west")
    expect(page.locator("#results tbody tr")).to_have_count(0)
    # What the API server refused was shown by the browser as a failed load, and is our page's 422.
    assert [each for each in complaints if "422" not in each] == []


def apply(hand: Hand) -> None:
    page = hand.page
    expect(page.get_by_role("heading", name="Who you are")).to_be_visible()
    page.get_by_label("Which cards, where?").fill("8 L40S on our campus")
    hand.press("Apply")
    expect(page.get_by_text("Our staff have not let you in yet.")).to_be_visible()
    assert judged(page, Scale(page)) == []


def approve(browser: Browser, world: World, campus: SimStack) -> None:
    """A member of the staff finds it in the queue, and binds where its API server may live."""
    context = browser.new_context(storage_state=signed_in(browser, world, "staff"))
    try:
        page = context.new_page()
        page.goto(f"{world.stack.base_url}/staff/providers")
        page.get_by_role("link", name="Campus Cards").first.click()
        page.get_by_label("Ownership").select_option("partner")
        page.get_by_label("Networks its API servers may live on").fill("127.0.0.0/8")
        port = urlsplit(campus.clusters[NAME].api_url).port
        page.get_by_label("Ports").fill(str(port))
        page.get_by_role("button", name="Approve and bind").click()
        expect(page.get_by_text("Approved and bound.")).to_be_visible()
    finally:
        context.close()


def place(hand: Hand) -> None:
    page = hand.page
    page.goto(page.url.split("?")[0])
    assert judged(page, Scale(page)) == []
    page.get_by_label("Name of the data centre").fill("campus-1")
    page.get_by_label("Region").fill("us-west")
    page.get_by_label("Country").fill("US")
    hand.press("Store data centre")
    expect(page.get_by_text("kubectl label node")).to_be_visible()
    assert judged(page, Scale(page)) == []
    hand.follow("It is applied: hand it over")


def hand_over(hand: Hand, campus: SimStack) -> None:
    """First with a certificate that is none, which stores nothing; then as it is."""
    page, cluster = hand.page, campus.clusters[NAME]
    for certificate in ("no certificate", cluster.ca_pem):
        page.get_by_label("Name of the cluster").fill("campus")
        page.get_by_label("API server").fill(cluster.api_url)
        page.get_by_label("CA certificate, PEM").fill(certificate)
        page.get_by_label("Token").fill(cluster.token)
        hand.press("Hand over")
        if certificate != cluster.ca_pem:
            expect(page.locator(".field__error")).to_be_visible()
            expect(page.get_by_label("Token")).to_have_value("")  # never shown again
            assert judged(page, Scale(page)) == []
    page.wait_for_url("**/provider/join?*cluster=clu_*")
    # The list looks by itself: the page is not loaded again by us.
    expect(page.get_by_role("link", name="Go on to prices")).to_be_visible(timeout=LOOK_MS)
    assert judged(page, Scale(page)) == []


def price(hand: Hand) -> None:
    page = hand.page
    page.goto(page.url.split("?")[0])  # whoever comes back is where they were
    expect(page.get_by_role("heading", name="What was found")).to_be_visible(timeout=LOOK_MS)
    assert judged(page, Scale(page)) == []
    page.locator("main input.input").first.fill("0.77")
    hand.press("Put them on sale")
    expect(page.get_by_role("heading", name="Your cards are for rent")).to_be_visible()
    assert judged(page, Scale(page)) == []


def leave(hand: Hand, world: World) -> None:
    """Cleanly: the consequences first, then no new rentals, and with none left it is over."""
    page = hand.page
    page.goto(f"{world.stack.base_url}/provider")
    hand.follow("campus")
    cluster = page.url
    hand.follow("For good")
    expect(page.locator("main")).to_contain_text("this is not undone")
    hand.press("Take no new rentals")
    expect(page.get_by_text("It takes no new rentals. Those that run go on.")).to_be_visible()

    def retired() -> bool:
        page.goto(cluster)
        return page.locator(".badge[data-state='retired']").count() > 0

    world.until(retired, "the last thing of it is gone", deadline_s=LOOK_MS / 1000)


@pytest.fixture
def owner(browser: Browser, world: World) -> Iterator[Page]:
    context = browser.new_context(storage_state=signed_in(browser, world, "provider"))
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def test_an_owner_looks_after_nodes_and_prices(owner: Page, world: World) -> None:
    owner.goto(f"{world.stack.base_url}/provider")
    owner.locator("#clusters a.table__main").first.click()
    node = owner.locator("details.machine").first
    name = node.get_attribute("id")
    node.locator("summary").click()
    node.get_by_role("button", name="Cordon", exact=True).click()
    node = owner.locator(f"details.machine[id='{name}']")
    expect(node).to_contain_text("cordoned by you")
    node.locator("summary").click()
    node.get_by_role("button", name="Uncordon").click()
    expect(owner.locator(f"details.machine[id='{name}']")).not_to_contain_text("cordoned by you")

    owner.goto(f"{world.stack.base_url}/provider/offers")
    price = owner.locator("form[action$='/price'] input[name='price']").first
    before = price.input_value()
    price.fill("7.77")
    price.press("Enter")
    expect(owner.locator("#effect")).to_contain_text("Keep their price")
    expect(owner.locator("#effect")).to_contain_text("$7.77")
    owner.get_by_role("link", name="Your offers").click()
    expect(price).to_have_value(before)  # looking at what a price does sets none


def test_an_owner_announces_maintenance_and_calls_it_off(owner: Page, world: World) -> None:
    owner.goto(f"{world.stack.base_url}/provider/capacity")
    begins = (world.now() + timedelta(days=5)).strftime("%Y-%m-%dT%H:%M")
    owner.get_by_label("From, UTC").fill(begins)
    owner.get_by_label("Why, for renters").fill("New switches")
    owner.get_by_role("button", name="Announce").click()
    expect(owner.locator("main")).to_contain_text("New switches")
    owner.get_by_role("button", name="Call off").first.click()
    expect(owner.locator("main")).to_contain_text("Called off")


def test_an_owner_sees_what_a_card_costs_and_keeps_it(owner: Page, world: World) -> None:
    query = (
        "purchase_price=26280&utilisation=70&price=2&watts_load=1000&watts_idle=100"
        "&kwh_price=0.2&life_years=8&method=market_value"
    )
    owner.goto(f"{world.stack.base_url}/provider/economics?{query}")
    expect(owner.locator("[data-chart] canvas").first).to_be_visible()
    for path in ("earnings", "payouts", "reliability"):
        owner.goto(f"{world.stack.base_url}/provider/{path}")
        expect(owner.get_by_role("heading", level=1)).to_be_visible()
