"""Pages about one thing each: a rental, a charge, an invoice, an offer, a cluster, an incident.
They are reached by the links that people follow, and judged like every other page: width, weight,
axe-core, console."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page

from devstack.pages import LINKS, below
from tests.browser.desk import STRIPE_S, contest, newcomer
from tests.browser.people import signed_in
from tests.browser.test_pages import WIDTHS, Scale, faults_of
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

# Pages that no link leads to, or only one from the page of a certain rental.
PLAIN: dict[str, tuple[str, ...]] = {
    "renter": (
        "/rentals/{ended}",
        "/charges/{charge}",
        "/rentals/bulk?action=stop&rental={running}",
        "/reports/new?rental={running}",
    ),
    "provider": ("/provider/rentals/{partners}/stop",),
    "staff": ("/staff/rentals/{ended}/explain",),
}
INVOICED = Decimal("0.55")


class Things(NamedTuple):
    """Rentals by id: one that runs, one that ended, one on a partner's card; what the one that
    ended was charged."""

    running: str
    ended: str
    partners: str
    charge: str


@pytest.fixture(scope="module")
def things(world: World) -> Iterator[Things]:
    """What the pages are about: with an invoice that staff closed, an incident they named, a
    problem that was reported and a payment that is contested."""
    renter, postpaid, staff = (world.people[name] for name in ("renter", "postpaid", "staff"))
    began = world.now()
    renter.api.post("/projects", {"name": "Details"})
    renter.api.post("/templates", {"name": "Details", "image": f"ubuntu@sha256:{'1' * 64}"})
    # By its address: nothing resolves names here, and nothing is sent before an event.
    hook = {"url": "https://93.184.215.14/hook", "event_types": ["invoice.*"]}
    renter.api.post("/webhooks", hook)
    contest(world, newcomer(world, "contested-page", "60.00"))
    (place, *_) = [each for each in renter.api.get("/datacenters")["items"] if each["disk_price"]]
    kept = {"name": "details", "size_gib": 10, "datacenter": place["id"]}
    renter.api.post("/volumes", kept)
    ended = world.rent(renter)
    # A whole machine of the dearest: there is no invoice under half a dollar.
    dear = world.rent(postpaid, accelerator="nvidia-b300-sxm", gpus=8)
    partners = world.rent(renter, ownership="partner")
    for person, rental in ((renter, ended), (postpaid, dear), (renter, partners)):
        world.until_state(person, rental["id"], "running", deadline_s=90)
    ran, long = world.now(), timedelta(hours=float(INVOICED / Decimal(dear["price"])))
    world.until(lambda: world.now() - ran > long, "enough for an invoice", deadline_s=60)
    world.end(renter, ended["id"])
    world.end(postpaid, dear["id"])
    staff.api.post(f"/staff/organizations/{postpaid.organization}/close-period")
    window = {"from_at": began.isoformat(), "to_at": world.now().isoformat()}
    staff.api.post("/staff/incidents", {"title": "Details", "cause": "platform", **window})
    (charge, *_) = renter.api.get(f"/rentals/{ended['id']}/charges")["items"]
    renter.api.post("/problem-reports", {"charge": charge["id"], "text": "Details"})
    world.until(
        lambda: staff.api.get("/staff/disputes")["items"],
        "the contested payment is known",
        deadline_s=STRIPE_S,
    )
    running = world.rent(renter)
    world.until_state(renter, running["id"], "running", deadline_s=90)
    yield Things(running["id"], ended["id"], partners["id"], charge["id"])
    world.end(renter, running["id"])
    world.end(renter, partners["id"])


@pytest.fixture
def page(browser: Browser, world: World, person: str) -> Iterator[Page]:
    """Signed in as ``person``; nothing may complain while the test looks around."""
    context = browser.new_context(
        viewport={"width": WIDTHS[0], "height": 800},
        storage_state=signed_in(browser, world, person),
    )
    opened = context.new_page()
    complaints = complaints_of(opened, world.stack.base_url)
    yield opened
    context.close()
    assert complaints == []


@pytest.mark.parametrize("person", list(PLAIN))
def test_pages_of_one_thing_fit_are_quiet_light_and_open_to_all(
    page: Page, world: World, things: Things, person: str
) -> None:
    scale, found = Scale(page), []
    for path in PLAIN[person]:
        found += faults_of(page, scale, world.stack.base_url + path.format_map(things._asdict()))
    assert found == []


@pytest.mark.parametrize("person", list(LINKS))
def test_pages_behind_links_are_like_that_too(
    page: Page, world: World, things: Things, person: str
) -> None:
    base = world.stack.base_url
    paths: dict[str, None] = {}
    for path, prefix in LINKS[person]:
        page.goto(base + path)
        link = page.locator(f'main a[href^="{prefix}"]').first.get_attribute("href")
        assert link is not None, (path, prefix)
        paths |= dict.fromkeys([link, *below(link)])
    scale, found = Scale(page), []
    for path in paths:
        found += faults_of(page, scale, base + path)
    assert found == []
