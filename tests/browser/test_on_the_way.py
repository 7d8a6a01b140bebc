"""Pages that nobody has the address of: between two forms, behind a mailed link, with a secret that
is shown once. They are judged like every other page, as people come by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.people import PASSWORD, app_code, mailed_token
from devstack.screenshots import give_code
from tests.browser.desk import press, seat
from tests.browser.test_pages import WIDTHS, Scale, judged
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

EMAIL = "wayfarer@example.com"
ANOTHER = "another-horse-8-battery"


class Way:
    """A page on which one thing after the other is done, and what was wrong on it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.found: list[str] = []
        self._scale = Scale(page)

    def at(self, heading: str) -> None:
        """It has this heading; judge it, and be a desk again."""
        expect(self.page.locator("h1")).to_have_text(heading)
        self.found += [f"{heading}: {fault}" for fault in judged(self.page, self._scale)]
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 800})

    def goto(self, path: str) -> None:
        self.page.goto(self.base + path)

    def fill(self, **fields: str) -> None:
        for label, text in fields.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).first.fill(text)

    def press(self, name: str) -> None:
        press(self.page.locator("main"), name)


@pytest.fixture
def way(browser: Browser, world: World) -> Iterator[Way]:
    """A stranger's page; what the server refuses on purpose has its status in the console."""
    context = browser.new_context(viewport={"width": WIDTHS[0], "height": 800})
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints = complaints_of(page, world.stack.base_url)
    walked = Way(page, world.stack.base_url)
    yield walked
    context.close()
    assert walked.found == []
    assert [each for each in complaints if "status of 4" not in each] == []


def test_from_the_first_form_to_a_second_factor(browser: Browser, world: World, way: Way) -> None:
    page, mail = way.page, world.stack.mail
    way.goto("/sign-up")
    way.press("Sign up")
    way.fill(**{"E-mail": EMAIL, "Password": PASSWORD, "Organization": "   "})
    page.get_by_label("I accept the terms").click()
    way.press("Sign up")
    expect(page.locator(".field__error")).to_be_visible()
    way.at("Create an account")
    way.fill(Password=PASSWORD, Organization="Wayfarers")
    way.press("Sign up")
    way.at("Look into your mailbox")
    way.goto(f"/verify-email?token={mailed_token(mail, EMAIL)}")
    way.at("Confirm your e-mail address")
    way.fill(Password=PASSWORD)
    way.press("Confirm and sign in")

    way.goto("/api-keys")
    way.fill(Name="A program")
    way.press("Make key")
    expect(page.get_by_text("it is not shown again")).to_be_visible()
    way.at("API keys")

    way.goto("/settings/second-factor")
    way.fill(Your_password=PASSWORD)
    way.press("Go on")
    way.at("Second factor")
    secret = page.locator("#secret").inner_text().strip()
    page.locator("form[action$='/confirm'] input[name='code']").fill(app_code(secret))
    way.press("Switch on")
    expect(page.locator("ul.codes li").first).to_be_visible()
    way.at("Second factor")

    page.context.clear_cookies()
    way.goto("/sign-in")
    way.fill(**{"E-mail": EMAIL, "Password": "wrong-horse-7-battery"})
    way.press("Sign in")
    expect(page.locator("main")).to_contain_text("password")
    way.at("Sign in")
    way.fill(Password=PASSWORD)
    way.press("Sign in")
    way.at("One more step")
    give_code(page, secret)

    way.goto("/no-such-page")
    way.at("There is nothing at this address")

    page.context.clear_cookies()
    way.goto("/reset-password")
    way.fill(**{"E-mail": EMAIL})
    way.press("Send the link")
    way.at("Look into your mailbox")
    way.goto(f"/reset-password?token={mailed_token(mail, EMAIL)}")
    way.at("Choose a new password")
    way.fill(**{"New password": ANOTHER})
    way.press("Set password")
    way.at("Sign in")


def test_an_invitation_as_a_stranger_and_as_somebody_else_sees_it(
    browser: Browser, world: World, way: Way
) -> None:
    email = "invited@example.com"
    with seat(browser, world, "second_renter") as page:
        page.goto(f"{way.base}/team")
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Role").select_option(label="Viewer")
        press(page, "Send the invitation")
        expect(page.locator("main")).to_contain_text(email)
        path = f"/invitation?token={mailed_token(world.stack.mail, email)}"
        way.goto(path)
        way.at("Join Second Labs")
        theirs = Way(page, way.base)
        theirs.goto(path)
        theirs.at("Join Second Labs")
        way.found += theirs.found
