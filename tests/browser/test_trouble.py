"""What a renter sees in a real browser when something goes wrong on the other side."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from devstack.kube.simclient import Sim
from devstack.play import uuid_of
from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

# A cluster calls a node lost forty seconds after its last word; the renter is told when we hear it.
TOLD_MS = 120_000
BACK_MS = 60_000


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
        (control,) = {
            cluster.sim_control_url
            for name, cluster in world.stack.clusters.items()
            if node.startswith(name)
        }
        with Sim(control).fault("silent_node", {"node": node}):
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
    charged = "SELECT from_ts, to_ts FROM facts.usage WHERE rental_id = %s"
    world.until(lambda: bool(world.query(charged, uuid_of(rental["id"]))), "it was charged")
    lines = world.query(charged, uuid_of(rental["id"]))
    assert not [line for line in lines if line["from_ts"] <= told_at < line["to_ts"]], lines
