"""In Chinese in a browser: the switch comes back to its page, and every page fits a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from devstack.pages import PAGES
from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]


def test_the_switch_comes_back_to_its_page(page: Page, world: World) -> None:
    page.goto(f"{world.stack.base_url}/sign-in?next=/billing")
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page).to_have_url(f"{world.stack.base_url}/sign-in?next=/billing")
    expect(page.get_by_role("heading", level=1)).to_have_text("登录")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


@pytest.mark.parametrize("person", ["renter", "provider", "staff"])
def test_pages_fit_a_phone_in_chinese(browser: Browser, world: World, person: str) -> None:
    """Without a Chinese font a sign is a box as wide as the sign would be."""
    base = world.stack.base_url
    context = browser.new_context(
        viewport={"width": 360, "height": 800}, storage_state=signed_in(browser, world, person)
    )
    try:
        context.add_cookies([{"name": "language", "value": "zh-hans", "url": base}])
        page = context.new_page()
        complaints = complaints_of(page, base)
        wide = []
        for path in PAGES[person]:
            page.goto(base + path)
            expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
            needed = page.evaluate("document.documentElement.scrollWidth")
            wide += [f"{path} needs {needed} px"] if needed > 360 else []
            moments = page.locator("time[data-shape=full]").all_text_contents()
            assert all(re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d", each) for each in moments), path
        assert wide == []
        assert complaints == []
    finally:
        context.close()
