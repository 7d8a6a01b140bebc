"""One suite for two servers: the simulated API server and the real control plane, one cluster each.

`kube` is the server under test. What only one of them can do is skipped on the other with the
reason. `pytest tests/contract/kube -k sim` needs nothing built and takes some seconds.
"""

from __future__ import annotations

import itertools
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from devstack.kube.api import Api
from devstack.kube.sim.control import ApiSim
from devstack.kube.sim.stack import Pace, SimStack
from devstack.kube.simclient import Sim
from devstack.kube.stack import Cluster, KubeStack
from devstack.state import State
from provisioner.contracts import AddressBinding
from provisioner.kube.api import KubernetesApi
from provisioner.kube.client import Client
from provisioner.kube.errors import Rejected
from tests.live.pods import rental_pod

Json = dict[str, Any]

SPACE = "gpuyard-r-01"
NAME = "dc-owned"
OURS = {"app.kubernetes.io/managed-by": "gpuyard"}
# Nodes report every second. The real node controller looks every five, so less would flap.
HEARTBEAT_S = 1.0
_GRACE_S = {"sim": 4, "real": 10}
_numbers = itertools.count(1)


@dataclass
class Kube:
    """A server under test, its cluster, and what a provider and its nodes can do to it."""

    kind: str
    stack: SimStack | KubeStack
    cluster: Cluster

    @cached_property
    def api(self) -> KubernetesApi:
        """The product's own calls with the platform's small token."""
        return self.connect()

    @cached_property
    def client(self) -> Client:
        return self.make_client()

    @cached_property
    def admin(self) -> Api:
        """All rights, over HTTPS on both servers."""
        return Api.from_kubeconfig(Path(self.cluster.admin_kubeconfig))

    @cached_property
    def tenant(self) -> Api:
        return self.cluster.tenant()

    @property
    def sim(self) -> Sim:
        """The nodes."""
        return Sim(self.cluster.sim_control_url)

    @property
    def faults(self) -> ApiSim:
        """The faults of the server itself; skips on a real one."""
        if self.kind != "sim":
            pytest.skip("a real server does not fail on order")
        return ApiSim(self.cluster.sim_control_url)

    def make_client(self, **changed: Any) -> Client:
        url = changed.pop("api_url", self.cluster.api_url)
        given = {"ca_pem": self.cluster.ca_pem, "token": self.cluster.token}
        binding = AddressBinding(("127.0.0.0/8",), (urlsplit(url).port or 0,))
        return Client.direct(api_url=url, **{"binding": binding, **given, **changed})

    def text(self, path: str, **query: str) -> str:
        """The body of an answer that is no JSON, read with the platform's token."""
        url = f"{self.cluster.api_url}{path}?{urlencode(query)}"
        asked = urllib.request.Request(url)
        asked.add_header("Authorization", f"Bearer {self.cluster.token}")
        trusted = ssl.create_default_context(cadata=self.cluster.ca_pem)
        with urllib.request.urlopen(asked, context=trusted, timeout=10) as answer:
            return str(answer.read().decode())

    def connect(self, **changed: Any) -> KubernetesApi:
        return KubernetesApi(self.make_client(**changed))


@pytest.fixture(scope="session", params=["sim", pytest.param("real", marks=pytest.mark.live)])
def kube(request: pytest.FixtureRequest) -> Iterator[Kube]:
    grace = _GRACE_S[request.param]
    with State.temporary("contract") as state:
        stack: SimStack | KubeStack
        if request.param == "sim":
            pace = Pace(heartbeat_s=HEARTBEAT_S, node_grace_s=grace)
            stack = SimStack(state.path / "kube", names=[NAME], namespaces=3, pace=pace)
        else:
            stack = KubeStack(
                state.path / "kube",
                names=[NAME],
                namespaces=3,
                heartbeat_s=HEARTBEAT_S,
                node_grace_s=grace,
            )
        stack.start()
        try:
            yield Kube(request.param, stack, stack.clusters[NAME])
        finally:
            stack.stop()


@pytest.fixture(autouse=True)
def in_order(kube: Kube) -> Iterator[None]:
    """No standing orders before and after a test, and no pod left by it."""
    kube.sim.clear()
    yield
    kube.sim.clear()
    if kube.kind == "sim":
        kube.faults.heal()
    for space in (SPACE, "gpuyard-r-02", "gpuyard-r-03"):
        for pod in kube.admin.get(f"/api/v1/namespaces/{space}/pods")["items"]:
            gone(kube, pod["metadata"]["name"], space)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"gy-contract-{next(_numbers)}"


def pod(name: str, **wanted: Any) -> Json:
    """A rental-like pod with our label."""
    body = rental_pod(name, **wanted)
    body["metadata"]["labels"] = dict(OURS)
    return body


def until(what: str, condition: Callable[[], Any], within_s: float = 15.0) -> Any:
    """The first true value of `condition()`; fails the test when none comes in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return found


def find(kube: Kube, name: str, space: str = SPACE) -> Json | None:
    try:
        return kube.api.get_pod(space, name)
    except Rejected as error:
        if error.code != "not_found":
            raise
        return None


def condition(found: Json | None, kind: str) -> Json:
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def ready(kube: Kube, name: str, space: str = SPACE) -> Json:
    """The pod once it is ready."""

    def look() -> Json | None:
        found = find(kube, name, space)
        return found if condition(found, "Ready").get("status") == "True" else None

    found: Json = until(f"{name} is ready", look)
    return found


def gone(kube: Kube, name: str, space: str = SPACE) -> None:
    """Delete without grace and wait until it is not there."""
    try:
        kube.api.delete_pod(space, name, uid=None, grace=0)
    except Rejected as error:
        if error.code != "not_found":
            raise
    until(f"{name} is gone", lambda: find(kube, name, space) is None)


def version(found: Json) -> int:
    return int(found["metadata"]["resourceVersion"])
