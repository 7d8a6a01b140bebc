"""People at the portal: signing up and in by the pages, as many clicks as it takes."""

from __future__ import annotations

from playwright.sync_api import Browser, Locator, Page, StorageState, expect

from devstack.people import PASSWORD, mailed_token
from devstack.screenshots import give_code
from tests.whole_stack import World


class Hand:
    """Clicks like a person, and counts."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, target: Locator) -> None:
        self.clicks += 1
        target.click()

    def press(self, name: str) -> None:
        """The one button of this name in the page's content."""
        self.click(self.page.locator("main").get_by_role("button", name=name, exact=True))

    def follow(self, name: str) -> None:
        self.click(self.page.locator("main").get_by_role("link", name=name, exact=True))


def sign_up(hand: Hand, world: World, email: str, organization: str) -> None:
    """From the sign-up page to the page that the person wanted, with a confirmed address."""
    page = hand.page
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Organization").fill(organization)
    hand.click(page.get_by_label("I accept the terms"))
    hand.press("Sign up")
    expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
    token = mailed_token(world.stack.mail, email)
    page.goto(f"{world.stack.base_url}/verify-email?token={token}")
    page.get_by_label("Password").fill(PASSWORD)
    hand.press("Confirm and sign in")
    expect(page.get_by_text("Your e-mail address is confirmed.")).to_be_visible()


def give_card(page: Page) -> None:
    """Into Stripe's hosted page, where a card is asked for."""
    for label, text in (
        ("Card number", "4242424242424242"),
        ("Month", "12"),
        ("Year", "2034"),
        ("CVC", "123"),
        ("Name on card", "A Person"),
    ):
        page.get_by_label(label).fill(text)


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


def stay_signed_in(page: Page, person: str) -> None:
    """Whoever comes after has this page's cookies, as after a second factor ended all others."""
    _cookies[person] = page.context.storage_state()


def sign_in(page: Page, world: World, person: str) -> None:
    page.goto(f"{world.stack.base_url}/sign-in")
    page.get_by_label("E-mail").fill(world.people[person].email)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Sign in").click()
    if secret := world.people[person].app_secret:
        page.wait_for_url("**/sign-in/code*")
        give_code(page, secret)
    page.wait_for_url(f"{world.stack.base_url}/")
