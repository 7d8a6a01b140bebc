"""A log from a program to its reader through every process between them, at one address."""

from __future__ import annotations

import pytest

from devstack.kube.simclient import Sim
from devstack.platform_api import PlatformApi, ProblemError
from tests.live.logreader import Reader
from tests.whole_stack import World

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_one_address_serves_the_log_from_start_to_end(world: World) -> None:
    """What `curl -N` with a key does: no redirect, no other host, the same address throughout."""
    person = world.people["renter"]
    rental = world.rent(person)
    address = f"{world.stack.base_url}/api/v1/rentals/{rental['id']}/logs"
    key = {"Authorization": f"Bearer {person.key}"}
    reader = Reader.open(f"{address}?follow=true", headers=key)
    assert reader.response.status == 200
    assert str(reader.response.getheader("Content-Type")).startswith("text/event-stream")
    reader.until_text("main started", within_s=60)

    sim = Sim(world.stack.clusters["dc-owned"].sim_control_url)
    label = {"labels": {"gpuyard.io/rental": rental["id"]}}
    with sim.fault("log", label, {"lines": 100, "text": "step {n}"}):
        reader.until_text("step 99")
    assert [event.data["text"] for event in reader.seen if event.kind == "message"][1:] == [
        f"step {n}" for n in range(100)
    ]
    half = next(event for event in reader.seen if event.data["text"] == "step 49")
    again = Reader.open(f"{address}?follow=true", last=half.ident, headers=key)
    again.until_text("step 99")
    assert again.seen[0].data["text"] == "step 50"
    again.close()
    tail = person.api.get(f"/rentals/{rental['id']}/logs?tail=2")
    assert tail["kind"] == "live"
    assert [item["text"] for item in tail["items"]] == ["step 98", "step 99"]

    for stranger in (world.people["second_renter"].api, PlatformApi(world.stack.base_url)):
        with pytest.raises(ProblemError) as refused:
            stranger.get(f"/rentals/{rental['id']}/logs")
        assert refused.value.status in (401, 404)

    world.end(person, rental["id"])
    reader.until_text("received SIGTERM")
    last = reader.next()
    assert last is not None
    assert (last.kind, last.data) == ("end", {"code": "ended"})
    assert person.api.get(f"/rentals/{rental['id']}/logs")["kind"] == "none"
    figures = person.api.get(f"/rentals/{rental['id']}/metrics")
    assert figures["series"]["state"][-1]["value"] == "terminated"
