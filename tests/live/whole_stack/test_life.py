"""A rental's whole life on real parts: stop, start, restart, lock, queue.

As its renter sees it, and as an independent watch of the cluster saw it.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from devstack.people import Person
from devstack.platform_api import Json, ProblemError
from devstack.play import SSH_KEY
from tests.whole_stack import World

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(
        "ROUNDS" not in os.environ,
        reason="part of make torture: it shares the whole stack's cards with the broker's test",
    ),
]

CARD = "nvidia-a100-80gb-pcie"


def act(person: Person, rental_id: str, action: str, **more: object) -> Json:
    return person.api.post(f"/rentals/{rental_id}/actions", {"action": action, **more})


def check_one_pod_at_a_time(world: World, rental_id: str, *, pods: int) -> None:
    """So many pods in all, each gone before the next appeared; no cards are held at the end."""
    seen = sorted(world.pods_of(rental_id), key=lambda pod: pod.appeared_at)
    assert len(seen) == pods
    for earlier, later in pairwise(seen):
        assert earlier.gone_at is not None
        assert earlier.gone_at <= later.appeared_at
    assert all(pod.gone_at for pod in seen)
    assert world.open_holds(rental_id) == 0


def test_stop_start_restart_lock_and_end(world: World) -> None:
    person = world.people["second_renter"]
    rental = world.rent(person)
    key = rental["id"]
    first = world.until_state(person, key, "running")
    assert {"stop", "restart", "terminate"} <= set(first["actions"])

    act(person, key, "stop")
    stopped = world.until_state(person, key, "stopped")
    assert "start" in stopped["actions"]
    assert world.open_holds(key) == 0
    assert world.pods_of(key)[0].gone_at is not None
    with pytest.raises(ProblemError) as refused:
        act(person, key, "restart")
    assert (refused.value.status, refused.value.slug) == (409, "invalid_transition")
    assert "start" in refused.value.body["actions"]

    act(person, key, "start")
    world.until_state(person, key, "running")
    second = sorted(world.pods_of(key), key=lambda pod: pod.appeared_at)[-1]

    act(person, key, "restart")
    world.until(lambda: len(world.pods_of(key)) == 3, "the restart's own pod")
    world.until_state(person, key, "running")
    third = sorted(world.pods_of(key), key=lambda pod: pod.appeared_at)[-1]
    assert third.uid != second.uid
    assert third.spec["nodeName"] == second.spec["nodeName"], "a restart keeps its cards"

    person.api.patch(f"/rentals/{key}", {"lock": True})
    for end in (lambda: act(person, key, "stop"), lambda: person.api.delete(f"/rentals/{key}")):
        with pytest.raises(ProblemError) as refused:
            end()
        assert (refused.value.status, refused.value.slug) == (423, "locked")
    person.api.patch(f"/rentals/{key}", {"lock": False})
    world.end(person, key)
    check_one_pod_at_a_time(world, key, pods=3)


def test_who_queues_runs_when_cards_come_back(world: World) -> None:
    """A card type is let to the last card, one more waits; one ends, and the waiting one runs."""
    person = world.people["second_renter"]
    world.leave_one_card(CARD)
    last = world.rent(person, accelerator=CARD)
    world.until_state(person, last["id"], "running")
    body = {
        "requirement": {"accelerator": CARD, "gpus": 1},
        "name": "waits",
        "template": "ubuntu",
        "ssh_keys": [SSH_KEY],
        "max_hours": 2,
    }
    with pytest.raises(ProblemError) as refused:
        person.api.post("/rentals", body)
    assert refused.value.status == 409, "nobody waits who did not ask to"
    waiting = person.api.post("/rentals", {**body, "queue": {"deadline_seconds": 600}})
    assert (waiting["state"], waiting["queue"]["position"]) == ("queued", 1)
    assert world.pods_of(waiting["id"]) == []

    world.end(person, last["id"])
    world.until_state(person, waiting["id"], "running", deadline_s=60)
    (ended,), (pod,) = world.pods_of(last["id"]), world.pods_of(waiting["id"])
    assert ended.gone_at is not None
    assert ended.gone_at <= pod.appeared_at
    world.end(person, waiting["id"])
    check_one_pod_at_a_time(world, waiting["id"], pods=1)
    world.free_cards()
