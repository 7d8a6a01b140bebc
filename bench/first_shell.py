"""From the order to the first shell, with the image on the node: the median and each step's share.

`ssh` is started as soon as the order is answered, and the gateway lets it in when the machine is up
(`rent_to_shell`); another one when the rental is running and its way in proven, with the steps of
that (`rent_to_proven_shell`).
Rentals follow each other on a real kubelet, through API, gateway and relay, all of a stack on this
machine; each is entered with OpenSSH's client as soon as it runs. Floor, in the same run and in
turns: a pod of the same image with one init container that does nothing, made with the API server
alone. Needs root (devstack/kube/node/able.py). The last line is JSON, in seconds.

    python bench/first_shell.py [rentals]
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devstack.kube.api import Api, ApiError
from devstack.kube.node.able import why_not
from devstack.people import RENTER_SCOPES, Person, join, make_staff, top_up
from devstack.play import await_state
from devstack.stack import REAL, Stack
from devstack.state import State
from devstack.way_in import Client, furnish_real, open_way, rent

Json = dict[str, Any]
SPACE = "gpuyard-r-16"  # of the pool the last: no renter has it


def one(
    stack: Stack, person: Person, client: Client, gateway: Json | None = None
) -> tuple[dict[str, float], Json]:
    """Seconds of each step of one rental, and the way in. gateway: where it is, as another rental
    told; without it nobody comes early."""
    began = time.time()
    rental = rent(stack, person, client)
    answered = time.time()
    early = Early(client, {**gateway, "user": rental["id"]}) if gateway else None
    way = open_way(person, rental["id"])
    open_at = time.time()
    done = client.run(way, "true")
    inside = time.time()
    if done.returncode:
        raise RuntimeError(done.stderr)
    events = person.api.get(f"/rentals/{rental['id']}/events")["items"]
    at = {event["state"]: datetime.fromisoformat(event["at"]).timestamp() for event in events}
    person.api.delete(f"/rentals/{rental['id']}")
    await_state(person, rental["id"], "terminated")
    steps = {
        "first": early.ended() - began if early else 0.0,
        "whole": inside - began,
        "order": answered - began,
        "pod asked for and scheduled": max(0.0, at["pulling"] - answered),
        "sandbox and tools": at["starting"] - at["pulling"],
        "check, start and proof of the way in": at["running"] - at["starting"],
        "seen by who waits": open_at - at["running"],
        "ssh": inside - open_at,
    }
    return steps, way


class Early(threading.Thread):
    """A renter who does not wait to be told."""

    def __init__(self, client: Client, way: Json) -> None:
        super().__init__(daemon=True)
        self._client, self._way = client, way
        self.start()

    def run(self) -> None:
        self._done = self._client.run(self._way, "true")
        self._at = time.time()

    def ended(self) -> float:
        self.join()
        if self._done.returncode:
            raise RuntimeError(self._done.stderr)
        return self._at


def floor(admin: Api, image: str, number: int) -> float:
    """Seconds from asking for a plain pod until it is ready."""
    name, path = f"gy-floor-{number}", f"/api/v1/namespaces/{SPACE}/pods"
    amounts = {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "64Mi"}
    plain = {"image": image, "resources": {"requests": amounts, "limits": amounts}}
    toleration = {"key": "gpuyard.io/pool", "operator": "Exists"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "initContainers": [{**plain, "name": "nothing", "command": ["true"]}],
            "containers": [{**plain, "name": "main"}],
            "tolerations": [toleration],
            "automountServiceAccountToken": False,
        },
    }
    began = time.monotonic()
    admin.post(path, pod)
    while not _ready(admin.get(f"{path}/{name}")):
        time.sleep(0.02)
    took = time.monotonic() - began
    admin.delete(f"{path}/{name}", {"gracePeriodSeconds": 0})
    while _is_there(admin, f"{path}/{name}"):
        time.sleep(0.02)
    return took


def _ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _is_there(admin: Api, path: str) -> bool:
    try:
        admin.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def measure(rentals: int) -> Json:
    with State.temporary("shell") as state:
        stack = Stack(state, clusters=(REAL,))
        try:
            stack.start()
            furnish_real(stack, make_staff(stack, "staff@example.com"))
            person = join(stack, "renter@example.com", "Labs", RENTER_SCOPES)
            top_up(stack, person, "500.00")
            client = Client.make(state.path / "keys", "bench")
            admin = Api.from_kubeconfig(stack.clusters[REAL].admin_kubeconfig)
            image = stack.clusters[REAL].images["base"]
            _, gateway = one(stack, person, client)  # unpacks the images
            taken, floors = [], []
            for number in range(rentals):
                taken.append(one(stack, person, client, gateway)[0])
                floors.append(floor(admin, image, number))
        finally:
            stack.stop()
    middle = {step: statistics.median(each[step] for each in taken) for step in taken[0]}
    first, whole = middle.pop("first"), middle.pop("whole")
    return {
        "rentals": rentals,
        "rent_to_shell": round(first, 2),
        "rent_to_proven_shell": round(whole, 2),
        "floor_plain_pod": round(statistics.median(floors), 2),
        "steps": {step: round(seconds, 2) for step, seconds in middle.items()},
        "share_percent": {step: round(100 * s / whole) for step, s in middle.items()},
    }


def main() -> int:
    if reason := why_not():
        print(f"not measured: {reason}")
        return 0
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 9)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
