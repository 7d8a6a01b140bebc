"""A headless Chromium, one for the session, and a fresh page for each test: fixtures for the
conftest of each folder with a browser in it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from devstack.chromium import launch_options

# Pictures of failed tests, in the checkout's root and ignored by git.
RESULTS = Path(__file__).resolve().parents[1] / "test-results"

# Longer than any page here takes on a machine that also runs two clusters; shorter than a person
# would wait.
PATIENCE_MS = 15_000

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure for the fixture that takes its picture."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser; fetched on first use when the machine has none."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(**launch_options())
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page with cookies of its own; a picture of it is kept when the test fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    yield opened
    if request.node.stash.get(_failed, False):
        RESULTS.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.nodeid)
        opened.screenshot(path=RESULTS / f"{name}.png", full_page=True)
    context.close()


def complaints_of(page: Page, base_url: str) -> list[str]:
    """Console errors, warnings and uncaught exceptions of our own pages, as they come."""
    found: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        ours = str(message.location.get("url", "")).startswith(base_url) or not message.location
        if message.type in {"error", "warning"} and ours:
            found.append(f"{page.url}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))
    return found
