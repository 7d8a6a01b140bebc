"""What a renter sees in a real browser when something goes wrong on the other side."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from devstack.kube.simclient import Sim
from devstack.play import uuid_of
from tests.browser.desk import seat
from tests.browser.people import signed_in
from tests.browser.test_pages import Scale, faults_of
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

# A cluster calls a node lost forty seconds after its last word; the renter is told when we hear it.
TOLD_MS = 120_000
BACK_MS = 60_000
# Two refusals of a registry, told by lists of the cluster.
REFUSED_MS = 150_000
START_MS = 90_000
CHARGED = "SELECT from_ts, to_ts FROM facts.usage WHERE rental_id = %s"


def test_a_host_that_dies_is_told_with_choices(browser: Browser, world: World) -> None:
    person = world.people["second_renter"]
    rental = world.rent(person)
    world.until_state(person, rental["id"], "running", deadline_s=90)
    pod = world.wait_pod(rental["id"], "ready")
    context = browser.new_context(storage_state=signed_in(browser, world, "second_renter"))
    try:
        page = context.new_page()
        complaints = complaints_of(page, world.stack.base_url)
        page.goto(f"{world.stack.base_url}/rentals/{rental['id']}")
        page.evaluate("window.unchanged = true")
        badge = page.locator("#rental-head .badge")
        expect(badge).to_have_attribute("data-state", "running")
        node = str(pod.spec["nodeName"])
        with nodes_of(world, node).fault("silent_node", {"node": node}):
            expect(badge).to_have_attribute("data-state", "degraded", timeout=TOLD_MS)
            # The pod's word comes first; whose fault it is says the next list of the nodes.
            said = page.locator("main")
            expect(said).to_contain_text("The meter stands.")
            expect(said).to_contain_text("The host stopped answering.", timeout=TOLD_MS)
            expect(said.get_by_role("link", name="Terminate")).to_be_visible()
            told_at = world.now()
        expect(badge).to_have_attribute("data-state", "running", timeout=BACK_MS)
        assert page.evaluate("window.unchanged"), "the page follows without being loaded again"
        assert complaints == []
    finally:
        context.close()
        world.end(person, rental["id"])
    world.until(lambda: bool(world.query(CHARGED, uuid_of(rental["id"]))), "it was charged")
    lines = world.query(CHARGED, uuid_of(rental["id"]))
    assert not [line for line in lines if line["from_ts"] <= told_at < line["to_ts"]], lines


def nodes_of(world: World, node: str) -> Sim:
    """The simulator of the cluster that has this node."""
    (control,) = {
        cluster.sim_control_url
        for name, cluster in world.stack.clusters.items()
        if node.startswith(name)
    }
    return Sim(control)


def test_an_image_that_is_not_there_costs_nothing_and_is_tried_again(
    browser: Browser, world: World
) -> None:
    """The machine fails, says whose matter that is, and starts once the image is there."""
    person = world.people["second_renter"]
    with seat(browser, world, "second_renter") as page:
        with nodes_of(world, "dc-owned").fault("pull_error"):
            rental = person.api.post("/rentals", unseen(world.order(person)))
            path = f"{world.stack.base_url}/rentals/{rental['id']}"
            page.goto(path)
            badge = page.locator("#rental-head .badge")
            expect(badge).to_have_attribute("data-state", "failed", timeout=REFUSED_MS)
            expect(page.locator("main")).to_contain_text("The registry has no such image.")
            expect(page.locator("#rental-stats .stat__value").first).to_have_text("$0.00")
            assert world.query(CHARGED, uuid_of(rental["id"])) == []
        try:
            assert faults_of(page, Scale(page), f"{path}/retry") == []
            page.goto(path)
            page.get_by_role("link", name="Try again", exact=True).click()
            page.get_by_role("dialog").get_by_role("button", name="Try again").click()
            expect(badge).to_have_attribute("data-state", "running", timeout=START_MS)
        finally:
            world.end(person, rental["id"])


def unseen(order: dict[str, Any]) -> dict[str, Any]:
    """The order with an image that no node has from another rental."""
    kept = {name: value for name, value in order.items() if name != "template"}
    return {**kept, "image": f"docker.io/library/unseen@sha256:{'e' * 64}"}
