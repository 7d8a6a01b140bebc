"""`make screenshots`: every page of a running demo as PNG at phone, tablet and desktop width.

Needs a running `make demo`. Files go to test-results/screenshots; they are for looking at.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from devstack.chromium import launch_options
from devstack.console import fail, say
from devstack.pages import LINKS, PAGES, below
from devstack.people import app_code

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "test-results" / "screenshots"
WIDTHS = (360, 768, 1440)
HEIGHT = 900


def main() -> int:
    """0 when every page answered; 1 with the pages that did not."""
    endpoints = ROOT / ".devstack" / "endpoints.json"
    if not endpoints.exists():
        raise fail("no running demo: start `make demo` first")
    stack = json.loads(endpoints.read_text())
    OUT.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        for persona, paths in PAGES.items():
            wrong += _shoot(browser, stack, persona, paths)
        browser.close()
    for line in wrong:
        print(line, file=sys.stderr)
    say(f"screenshots are in {OUT.relative_to(ROOT)}")
    return 1 if wrong else 0


def _shoot(
    browser: Browser, stack: dict[str, Any], persona: str, paths: tuple[str, ...]
) -> list[str]:
    context = browser.new_context()
    page = context.new_page()
    if persona:
        _sign_in(page, stack, persona)
    wrong = []
    for path in (*paths, *_details(page, stack, persona)):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            answer = page.goto(stack["base_url"] + path)
            if answer is None or not answer.ok:
                wrong.append(f"{path}: {answer.status if answer else 'no answer'}")
            place = re.sub(r"\W+", "-", path).strip("-") or "home"
            name = f"{persona or 'public'}-{place[:60]}-{width}.png"
            page.screenshot(path=OUT / name, full_page=True)
    context.close()
    return wrong


def _sign_in(page: Page, stack: dict[str, Any], persona: str) -> None:
    page.goto(stack["base_url"] + "/sign-in")
    page.get_by_label("E-mail").fill(stack["logins"][persona])
    page.locator('input[type="password"]').fill(stack["password"])
    page.locator('input[type="password"]').press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/sign-in"))
    if secret := stack["app_secrets"].get(persona):
        give_code(page, secret)
    page.wait_for_url(lambda url: "/sign-in" not in url)


def give_code(page: Page, secret: str) -> None:
    """The second step of signing in. A code that was used a moment ago is refused: then the next
    half minute's, which is taken as well."""
    for ahead in (0, 1):
        page.get_by_label("Code of your app").fill(app_code(secret, ahead=ahead))
        page.locator("main").get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()
        if "/sign-in" not in page.url:
            return


def _details(page: Page, stack: dict[str, Any], persona: str) -> tuple[str, ...]:
    """The first of a persona's objects of each kind that has a page, with what lies below it, if
    there is one."""
    found: dict[str, None] = {}
    for path, prefix in LINKS.get(persona, ()):
        page.goto(stack["base_url"] + path)
        link = page.locator(f'main a[href^="{prefix}"]')
        if link.count():
            href = str(link.first.get_attribute("href"))
            found |= dict.fromkeys([href, *below(href)])
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main())
