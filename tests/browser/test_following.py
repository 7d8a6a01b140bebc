"""Pages that follow what they show: nothing flickers, and no word of change is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.people import signed_in
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

# What a frame would show of a time as the server writes it, looked at before each is painted.
_UNREAD = """
window.unread = [];
(function look() {
  for (const each of document.querySelectorAll("time[data-shape]"))
    if (each.textContent.endsWith("UTC")) window.unread.push(each.textContent);
  requestAnimationFrame(look);
})();
"""
# In place of the stream, so that words of change come when the test says so.
_STREAM = """
window.EventSource = class {
  constructor() { window.stream = this; }
  addEventListener(kind, heard) { if (kind === "version") this.heard = heard; }
  close() {}
};
"""


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """The list of rentals, with one that rests, for somebody far from UTC."""
    renter = world.people["renter"]
    rental = world.rent(renter)
    world.until_state(renter, rental["id"], "running")
    context = browser.new_context(
        timezone_id="Asia/Tokyo", storage_state=signed_in(browser, world, "renter")
    )
    try:
        page = context.new_page()
        page.add_init_script(_STREAM)
        page.goto(f"{world.stack.base_url}/rentals")
        expect(page.locator("#rental-list time").first).not_to_contain_text("UTC")
        yield page
    finally:
        context.close()
        world.end(renter, rental["id"])


def told(page: Page, version: str) -> None:
    """The page hears that there is another version than the one that it has."""
    page.evaluate("version => window.stream.heard({ data: JSON.stringify(version) })", version)


def mark(page: Page) -> None:
    page.evaluate("document.querySelector('#rental-list').dataset.before = 'yes'")


def replaced(page: Page) -> None:
    expect(page.locator("#rental-list:not([data-before]):not(.htmx-settling)")).to_be_visible()


def test_times_are_the_readers_in_every_frame(page: Page) -> None:
    page.evaluate(_UNREAD)
    for turn in range(5):
        mark(page)
        told(page, f"another {turn}")
        replaced(page)
    assert page.evaluate("window.unread") == []


def test_a_word_of_change_that_comes_during_an_answer_is_made_up_for(page: Page) -> None:
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/rentals", hold)
    mark(page)
    with page.expect_request("**/rentals"):
        told(page, "second")
    told(page, "third")
    assert len(asked) == 1, "the answer about the second is on its way"
    with page.expect_request("**/rentals"):
        asked[0].continue_()
    replaced(page)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert len(asked) == 2, "and no more than that"


def test_what_came_while_rows_were_chosen_is_shown_afterwards(page: Page) -> None:
    chosen = page.get_by_role("checkbox", name="Choose test").first
    mark(page)
    chosen.check()
    told(page, "second")
    expect(page.locator("#rental-list[data-before]")).to_be_visible()
    expect(chosen).to_be_checked()
    chosen.uncheck()
    replaced(page)


def test_what_changed_before_the_page_listened_is_shown(page: Page, world: World) -> None:
    renter = world.people["renter"]
    another = world.rent(renter)
    try:
        rows = page.locator("#rental-list tbody tr").count()
        told(page, "whatever it is by now")
        expect(page.locator("#rental-list tbody tr")).to_have_count(rows + 1)
    finally:
        world.end(renter, another["id"])
