"""Renting with the keyboard alone: from the catalogue to a running card and its end.

Only keys are pressed; where the focus goes is what Tab makes of the page, and it is always seen.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

START_MS = 90_000
# More than any page here has to step over before what is wanted.
MOST_TABS = 120
FOCUSED = "document.activeElement"


def tab_to(page: Page, found: str) -> None:
    """Press Tab until the focused element fits a JavaScript condition on ``it``."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(f"((it) => {found})({FOCUSED})"):
            seen = "it.matches(':focus-visible') || it.closest('.option, .check') !== null"
            assert page.evaluate(f"((it) => {seen})({FOCUSED})"), "whoever has no mouse must see it"
            return
    raise AssertionError(f"Tab never came to {found}")


def said(text: str) -> str:
    return f"it.textContent.trim() === {text!r}"


def test_a_card_is_rented_and_given_back_without_a_mouse(browser: Browser, world: World) -> None:
    context = browser.new_context(storage_state=signed_in(browser, world, "second_renter"))
    try:
        page = context.new_page()
        complaints = complaints_of(page, world.stack.base_url)
        rent(page, world)
        expect(page.locator("#rental-head .badge")).to_have_attribute(
            "data-state", "running", timeout=START_MS
        )
        end(page)
        assert complaints == []
    finally:
        context.close()


def rent(page: Page, world: World) -> None:
    page.goto(world.stack.base_url)
    page.keyboard.press("Tab")
    assert page.evaluate(f"{FOCUSED}.textContent.trim()") == "Skip to content"
    page.keyboard.press("Enter")
    tab_to(page, "it.closest('#results tbody') && it.textContent.trim().startsWith('Rent')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/offers/ofr_*")
    expect(page.locator("#quote")).to_contain_text("per hour, all in")
    tab_to(page, "it.name === 'gpus'")
    page.keyboard.press("ArrowRight")  # one card more
    tab_to(page, "it.name === 'ssh'")
    choose(page, "none", lambda: page.keyboard.press("ArrowRight"))
    tab_to(page, "it.name === 'name'")
    page.keyboard.type("by keys")
    expect(page.locator("#quote button")).to_be_enabled()
    tab_to(page, said("Rent now"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/rentals/ren_*")


def choose(page: Page, value: str, step: Callable[[], None]) -> None:
    """Step through a group of radio buttons to the one with this value."""
    for _ in range(10):
        if page.evaluate(f"{FOCUSED}.value") == value:
            return
        step()
    raise AssertionError(f"the arrows never came to {value}")


def end(page: Page) -> None:
    """The dialog takes the focus, Escape leaves it, and the deed needs one more key."""
    tab_to(page, said("Terminate"))
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This cannot be undone")
    assert page.evaluate(f"{FOCUSED}.closest('dialog') !== null"), "the focus is in the dialog"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    tab_to(page, said("Terminate"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").last).to_be_visible()
    tab_to(page, "it.matches('dialog button') && it.textContent.trim() === 'Terminate'")
    page.keyboard.press("Enter")
    expect(page.locator("#rental-head .badge")).to_have_attribute(
        "data-state", "terminated", timeout=START_MS
    )
