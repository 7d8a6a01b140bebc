"""The rest of a rental's life, shown after the main job: stop, start, restart, the lock, the end.

One small rental, a few seconds. What is said to be proven was seen by the independent watch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from devstack.console import say
from devstack.kube.witness import Sighting, Witness
from devstack.people import Person
from devstack.platform_api import ProblemError
from devstack.play import SSH_KEY, await_state, check

Json = dict[str, Any]


def play_life(person: Person, witness: Witness) -> None:
    """Rent the cheapest card on owned hardware and lead it through everything but a fault."""
    api = person.api
    offer = api.get("/offers?ownership=owned&gpus=1&order=price&limit=1")["items"][0]
    quote = api.post("/quotes", {"offer": offer["id"], "gpus": 1})
    say(f"{person.email} takes 1 x {offer['accelerator']} through its whole life")
    wanted = {
        "quote": quote["id"],
        "name": "demo-life",
        "template": "ubuntu",
        "ssh_keys": [SSH_KEY],
        "max_hours": 4,
    }
    key = api.post("/rentals", wanted)["id"]
    await_state(person, key, "running")
    _act(person, key, "stop")
    stopped = await_state(person, key, "stopped")
    check(_pods(witness, key)[0].gone_at is not None, "stopped: the API server has no pod of it")
    check("start" in stopped["actions"], "and it says that it can be started again")
    _act(person, key, "start")
    await_state(person, key, "running")
    asked = _act(person, key, "restart")
    check(asked["state"] == "starting", "a restart stops the meter at once")
    await_state(person, key, "running")
    _, second, third = _three(_pods(witness, key))
    node = third.spec["nodeName"]
    check(second.spec["nodeName"] == node, f"the restart kept its cards on {node}")
    _prove_lock(person, key)
    api.delete(f"/rentals/{key}")
    await_state(person, key, "terminated")
    pods = _pods(witness, key)
    check(
        len(pods) == 3
        and all(a.gone_at and a.gone_at <= b.appeared_at for a, b in pairwise(pods))
        and pods[-1].gone_at is not None,
        "three pods in its life, each gone before the next one appeared, none left",
    )


def _act(person: Person, key: str, action: str) -> Json:
    return person.api.post(f"/rentals/{key}/actions", {"action": action})


def _pods(witness: Witness, key: str) -> list[Sighting]:
    found = witness.for_label("gpuyard.io/rental", key)
    return sorted(found, key=lambda pod: pod.appeared_at)


def _three(pods: list[Sighting]) -> tuple[Sighting, Sighting, Sighting]:
    check(len(pods) == 3, "each start made exactly one pod")
    return pods[0], pods[1], pods[2]


def _prove_lock(person: Person, key: str) -> None:
    person.api.patch(f"/rentals/{key}", {"lock": True})
    try:
        person.api.delete(f"/rentals/{key}")
        refused = ""
    except ProblemError as problem:
        refused = problem.slug
    check(refused == "locked", "locked, it refuses to be ended")
    person.api.patch(f"/rentals/{key}", {"lock": False})
