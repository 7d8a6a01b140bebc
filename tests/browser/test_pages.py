"""Every page of a signed-in renter on a phone and a desk, light and dark: it fits, and is quiet."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, Request, StorageState

from devstack.people import PASSWORD
from devstack.screenshots import give_code
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

PAGES = (
    "/", "/rentals", "/billing", "/billing/transactions", "/billing/usage",
    "/billing/invoices", "/billing/budgets", "/api-keys",
    "/ssh-keys", "/secrets", "/templates", "/templates/new", "/webhooks",
    "/settings", "/settings/second-factor", "/provider", "/terms", "/styleguide",
)  # fmt: skip
PROVIDER = (
    "/provider", "/provider/payouts", "/provider/earnings", "/provider/earnings?days=90",
    "/provider/economics", "/provider/capacity", "/provider/join",
    "/provider/economics?purchase_price=26280&utilisation=70&price=2&watts_load=1000"
    "&watts_idle=100&kwh_price=0.2&life_years=8&method=market_value",
)  # fmt: skip
STAFF = (
    "/settings/second-factor", "/staff/", "/staff/providers", "/staff/organizations",
    "/staff/books", "/staff/months", "/staff/returns", "/staff/disputes", "/staff/write-offs",
    "/staff/payouts", "/staff/economics", "/staff/abuse",
)  # fmt: skip


def signed_in(browser: Browser, world: World, person: str) -> StorageState:
    """The cookies of a person's sign-in, which is done once: a code is taken once."""
    if person not in _cookies:
        context = browser.new_context()
        page = context.new_page()
        sign_in(page, world, person)
        _cookies[person] = context.storage_state()
        context.close()
    return _cookies[person]


_cookies: dict[str, StorageState] = {}


def sign_in(page: Page, world: World, person: str) -> None:
    page.goto(f"{world.stack.base_url}/sign-in")
    page.get_by_label("E-mail").fill(world.people[person].email)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Sign in").click()
    if secret := world.people[person].app_secret:
        page.wait_for_url("**/sign-in/code*")
        give_code(page, secret)
    page.wait_for_url(f"{world.stack.base_url}/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize(
    ("person", "paths"),
    [("renter", PAGES), ("provider", PROVIDER), ("staff", STAFF)],
)
def test_pages_fit_and_are_quiet(
    browser: Browser, world: World, person: str, paths: tuple[str, ...], width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        storage_state=signed_in(browser, world, person),
    )
    try:
        page = context.new_page()
        complaints = complaints_of(page, world.stack.base_url)
        wide = []
        for path in paths:
            answer = page.goto(world.stack.base_url + path)
            assert answer is not None
            assert answer.status == 200, path
            needed = page.evaluate("document.documentElement.scrollWidth")
            if needed > width:
                wide.append(f"{path} needs {needed} px")
        assert wide == []
        assert complaints == []
    finally:
        context.close()


def test_the_catalogue_is_light(browser: Browser, world: World) -> None:
    """With style, script and icons no more than 150 kB on the wire for a first visit."""
    context = browser.new_context()
    try:
        page = context.new_page()
        sizes: dict[str, int] = {}
        page.on("requestfinished", lambda request: sizes.update({request.url: _weight(request)}))
        page.goto(world.stack.base_url)
        page.wait_for_load_state("networkidle")
        assert any(url.endswith("htmx-2.min.js") for url in sizes), "everything was counted"
        assert sum(sizes.values()) < 150_000, sizes
    finally:
        context.close()


def _weight(request: Request) -> int:
    counted = request.sizes()
    return counted["responseBodySize"] + counted["responseHeadersSize"]
