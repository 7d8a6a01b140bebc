"""The terminal as a person has it: a browser, the portal, and a machine that really runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from devstack.way_in import Client, open_way, rent
from tests.browsers import RESULTS, complaints_of
from tests.live.real_node.conftest import RealWorld, sign_in
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def rental(real_world: RealWorld) -> Iterator[str]:
    """Ordered with two cards; its id. Ended by the last test."""
    client = Client.make(real_world.keys, "terminal")
    made = rent(real_world.stack, real_world.renter, client, gpus=2, name="train")
    open_way(real_world.renter, made["id"])
    yield made["id"]
    real_world.end(made["id"])


def shown(page: Page) -> str:
    return page.locator(".xterm-rows").inner_text().replace("\xa0", " ")


def until_shown(page: Page, text: str) -> None:
    expect(page.locator(".xterm-rows")).to_contain_text(text)


def size_of(page: Page, name: str) -> str:
    """Rows and columns as the shell has them; ``name`` marks this question."""
    page.keyboard.type(f"echo {name}=$(stty size | tr ' ' x).\n")
    until_shown(page, f"{name}=")
    for line in shown(page).splitlines():
        if line.startswith(f"{name}="):
            return line.strip().removeprefix(f"{name}=").rstrip(".")
    return ""


def picture(page: Page, name: str) -> None:
    """For people who look at it; test-results is ignored by git."""
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / f"terminal-{name}.png", full_page=True)


def test_a_person_works_in_the_terminal(page: Page, real_world: RealWorld, rental: str) -> None:
    complaints = complaints_of(page, real_world.stack.base_url)
    refused: list[str] = []
    page.expose_function("heardOfRefusal", lambda said: refused.append(said))  # noqa: PLW0108
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) =>"
        " heardOfRefusal(`${event.violatedDirective} ${event.sourceFile} ${event.lineNumber}`))"
    )
    sign_in(page, real_world, real_world.renter)
    page.goto(f"{real_world.stack.base_url}/rentals/{rental}")
    page.get_by_role("link", name="Open a terminal").click()
    page.wait_for_url(f"**/rentals/{rental}/terminal")
    expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("region", name="Terminal of train")).to_be_visible()
    page.keyboard.type("nvidia-smi -L\n")
    until_shown(page, "GPU 1:")
    assert sum(line.startswith("GPU ") for line in shown(page).splitlines()) == 2
    page.keyboard.type("printf '\\033[31mred \\033[38;2;10;100;40mtrue colour\\033[0m plain\\n'\n")
    until_shown(page, "true colour plain")
    true = page.locator(".xterm-rows span", has_text="true colour").last
    expect(true).to_have_css("color", "rgb(10, 100, 40)")
    before = size_of(page, "before")
    picture(page, "desktop-light")
    page.emulate_media(color_scheme="dark")
    picture(page, "desktop-dark")
    page.set_viewport_size({"width": 360, "height": 740})
    until(lambda: size_of(page, f"s{time.monotonic_ns() % 9999}") != before, "it has shrunk")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture(page, "360-dark")
    page.emulate_media(color_scheme="light")
    picture(page, "360-light")
    page.set_viewport_size({"width": 1280, "height": 900})
    until(lambda: size_of(page, f"w{time.monotonic_ns() % 9999}") == before, "and grown again")
    assert complaints == []
    assert refused == []


def test_a_visit_is_a_members(page: Page, real_world: RealWorld, rental: str) -> None:
    sign_in(page, real_world, real_world.renter)
    page.goto(f"{real_world.stack.base_url}/rentals/{rental}/terminal")
    expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible(timeout=30_000)
    me = real_world.renter.api.get("/me")
    items = real_world.renter.api.get(f"/rentals/{rental}/visits")["items"]
    assert (items[0]["via"], items[0]["fingerprint"], items[0]["address"]) == ("portal", None, None)
    assert items[0]["user"] == me["user"]["id"], me


def test_an_end_is_said_and_nothing_reconnects(
    page: Page, real_world: RealWorld, rental: str
) -> None:
    sign_in(page, real_world, real_world.renter)
    page.goto(f"{real_world.stack.base_url}/rentals/{rental}/terminal")
    expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible(timeout=30_000)
    page.keyboard.type("exit\n")
    expect(page.get_by_role("alert")).to_contain_text("The shell has ended.")
    page.get_by_role("button", name="Reconnect").click()
    expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible(timeout=30_000)
    real_world.renter.api.delete(f"/rentals/{rental}")
    expect(page.get_by_role("alert")).to_contain_text("This machine was ended.")
    picture(page, "ended")
    page.get_by_role("button", name="Reconnect").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be entered at the moment")


def test_without_script_there_is_the_command(
    real_world: RealWorld, rental: str, page: Page
) -> None:
    """The page of a machine that ended says how it stands."""
    sign_in(page, real_world, real_world.renter)
    page.goto(f"{real_world.stack.base_url}/rentals/{rental}/terminal")
    expect(page.locator("main")).to_contain_text("The terminal opens while the machine runs")
