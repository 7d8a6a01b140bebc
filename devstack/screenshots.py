"""`make screenshots`: every page of a running demo as PNG at phone, tablet and desktop width.

Needs a running `make demo`. Files go to test-results/screenshots; they are for looking at.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from devstack.chromium import launch_options
from devstack.console import fail, say
from devstack.people import app_code

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "test-results" / "screenshots"
WIDTHS = (360, 768, 1440)
HEIGHT = 900

PUBLIC = (
    "/",
    "/sign-up",
    "/sign-in",
    "/terms",
    "/styleguide",
    "/provider-rules",
    "/compare",
    "/cards",
)
RENTER = (
    "/rentals",
    "/billing",
    "/billing/invoices",
    "/billing/budgets",
    "/ssh-keys",
    "/api-keys",
    "/secrets",
    "/templates",
    "/templates/new",
    "/webhooks",
    "/settings",
    "/settings/second-factor",
    "/reports",
    "/team",
    "/projects",
    "/audit",
    "/settings/notifications",
    "/searches",
)
STAFF = (
    "/settings/second-factor",
    "/staff/",
    "/staff/providers",
    "/staff/organizations",
    "/staff/books",
    "/staff/months",
    "/staff/returns",
    "/staff/disputes",
    "/staff/write-offs",
    "/staff/payouts",
    "/staff/economics",
    "/staff/abuse",
    "/staff/reports",
    "/staff/fraud",
    "/staff/unknown",
    "/staff/preflights",
    "/staff/switches",
    "/staff/brakes",
    "/staff/fees",
    "/staff/incidents",
    "/staff/capacity",
)
BY_PERSONA = {
    "renter": RENTER,
    "postpaid": ("/billing/invoices",),
    "provider": (
        "/provider",
        "/provider/payouts",
        "/provider/earnings",
        "/provider/economics",
        "/provider/capacity",
        "/provider/join",
        "/provider/offers",
        "/provider/reliability",
    ),
    "staff": STAFF,
}

_RENTED = (("/rentals", "/rentals/ren_"), ("/billing/invoices", "/billing/invoices/inv_"))
# Page with links, and what the first of them begins with.
DETAILS = {
    "renter": _RENTED,
    "postpaid": _RENTED,
    "provider": (
        ("/provider", "/provider/clusters/clu_"),
        ("/provider/offers", "/provider/offers/ofr_"),
        ("/provider/earnings", "/provider/offers/ofr_"),
    ),
}


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
        page = browser.new_page()
        page.goto(stack["base_url"])
        offer = page.locator('a[href^="/offers/"]').first.get_attribute("href")
        page.close()
        wrong += _shoot(browser, stack, "", (*PUBLIC, *([offer] if offer else [])))
        for persona, paths in BY_PERSONA.items():
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
            name = f"{persona or 'public'}-{path.strip('/').replace('/', '-') or 'home'}"
            page.screenshot(path=OUT / f"{name[:60]}-{width}.png", full_page=True)
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
    """The first of a persona's objects of each kind that has a page, if there are any."""
    found = []
    for path, prefix in DETAILS.get(persona, ()):
        page.goto(stack["base_url"] + path)
        link = page.locator(f'a[href^="{prefix}"]')
        if link.count():
            found.append(str(link.first.get_attribute("href")))
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main())
