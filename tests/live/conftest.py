"""One real cluster for all live tests of a run, started when the first of them asks for it.

`kube_owned` is the cluster (api_url, ca_pem, token, admin(), tenant()), `sim` its node simulator.
Nodes report every second and are Unknown after ten, so that tests of silence are short and a busy
machine does not lose healthy nodes. KUBE=sim runs them on the simulated control plane: quick, but
no proof.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.kube.api import Api, ApiError
from devstack.kube.sim.stack import Pace, SimStack
from devstack.kube.simclient import Sim
from devstack.kube.stack import KubeStack
from devstack.podtools import build_podtools
from devstack.state import State
from tests.sshpod import make_key

NODE_GRACE_S = 10


@pytest.fixture(scope="session")
def kube_stack():
    with State.temporary("live") as state:
        folder, names = state.path / "kube", ["dc-owned"]
        stack: KubeStack | SimStack
        if os.environ.get("KUBE") == "sim":
            pace = Pace(heartbeat_s=1.0, node_grace_s=NODE_GRACE_S)
            stack = SimStack(folder, names=names, pace=pace)
        else:
            stack = KubeStack(folder, names=names, heartbeat_s=1.0, node_grace_s=NODE_GRACE_S)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture(scope="session")
def kube_owned(kube_stack):
    """The running cluster `dc-owned`: what a provider hands over, and an admin client for tests."""
    return kube_stack.clusters["dc-owned"]


@pytest.fixture
def sim(kube_owned):
    """The node simulator, without standing orders before and after."""
    sim = Sim(kube_owned.sim_control_url)
    sim.clear()
    yield sim
    sim.clear()


@pytest.fixture(autouse=True)
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test leaves in the shared cluster goes with it: cards that a forgotten pod keeps
    would fail the next test, which has nothing to do with it. What must not be left is asserted by
    the tests themselves."""
    yield
    if "kube_owned" not in request.fixturenames:
        return
    api = request.getfixturevalue("kube_owned").admin()
    for kind in ("pods", "secrets"):
        for item in api.get(f"/api/v1/{kind}")["items"]:
            meta = item["metadata"]
            if meta["namespace"].startswith("gpuyard-r-") and meta["name"].startswith("gy-"):
                _remove(api, f"/api/v1/namespaces/{meta['namespace']}/{kind}/{meta['name']}")


def _remove(api: Api, path: str) -> None:
    try:
        api.delete(path, {"gracePeriodSeconds": 0})
    except ApiError as error:
        if error.status != 404:
            raise


@pytest.fixture(scope="session")
def binary() -> Path:
    """The tools of renters' pods."""
    return build_podtools()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A pod's Secret as it is mounted, and the gateway's half of it."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("host-key", "gateway"):
        make_key(folder, name)
    return folder
