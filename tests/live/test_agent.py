"""A cluster that nobody can connect to: its agent dials out, and everything is as with an address.

With KUBE=sim on the simulated control plane; else on a real one, with the bundle's own account.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connections, transaction

from devstack.kube.provision import apply, path_of, request_token
from kernel.errors import VendorError
from marketplace.providers import agents
from provisioner import facade
from provisioner.contracts import ClusterState, ClusterView
from provisioner.facade import access
from provisioner.facade.preflight import preflight
from provisioner.kube.client import Client
from provisioner.kube.connections import connect
from provisioner.kube.errors import code_of
from provisioner.models import Cluster
from provisioner.reconcile import instance_loop
from provisioner.streams.watcher import Watcher
from tests.agents import Platform, platform, register_agent, running_agent, write_account
from tests.live.pods import find
from tests.live.provider import end, look, now, reaches, rent
from tests.relayed import RelayProcess, relaying_at
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def on(settings: Any) -> Iterator[Platform]:
    with platform() as made:
        settings.GPUYARD_AGENT_DOOR = ("127.0.0.1", made.door_port)
        settings.GPUYARD_SSH_GATEWAY = ("127.0.0.1", made.serving.port)
        yield made


@pytest.fixture
def cluster(on: Platform) -> ClusterView:
    return facade.clusters(ids=[register_agent()])[0]


@pytest.fixture
def agent(
    kube_owned: Any, sim: Any, on: Platform, cluster: ClusterView, binary: Path, tmp_path: Path
) -> Iterator[RelayProcess]:
    with running_agent(binary, tmp_path, kube_owned, on, cluster.id) as made:
        yield made


def seen(cluster: ClusterView) -> ClusterView:
    look()
    return facade.clusters(ids=[cluster.id])[0]


def client_of(cluster: ClusterView) -> Client:
    api: Any = connect(Cluster.objects.get(pk=cluster.id))
    made: Client = api._client  # what the loops' calls go by
    return made


def failure(client: Client) -> str:
    with pytest.raises(VendorError) as caught:
        client.request("GET", "/version")
    return code_of(caught.value)


def test_a_machine_is_rented_through_it_and_leaves_nothing(
    kube_owned: Any, cluster: ClusterView, agent: RelayProcess
) -> None:
    found = seen(cluster)
    assert (found.state, found.api_url) == (ClusterState.READY, None)
    assert found.server_version == kube_owned.version
    assert found.slots > 0
    rules = {each.rule: each for each in preflight(cluster_id=cluster.id).rules}
    assert Cluster.objects.get(pk=cluster.id).preflight_passed
    assert rules["rights_too_many"].outcome == rules["forbidden_pods"].outcome == "pass"
    assert "agent's own" in rules["token_life"].measured
    view = rent(found)
    reaches(view, "ready")
    assert find(kube_owned.admin(), view.namespace, view.pod_name) is not None
    end(view)
    reaches(view, "gone")
    assert find(kube_owned.admin(), view.namespace, view.pod_name) is None
    agent.until_said(f"command POST /api/v1/namespaces/{view.namespace}/pods -> 201")
    agent.until_said(f"command DELETE /api/v1/namespaces/{view.namespace}/pods/{view.pod_name} ->")
    assert "hidden" not in "".join(agent.log), "what a command carries is nobody's to log"


def test_what_the_command_applies_is_all_that_it_needs(
    kube_owned: Any,
    sim: Any,
    on: Platform,
    cluster: ClusterView,
    binary: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The file behind the link on this server, and the agent with the Secret that is there then."""
    admin = kube_owned.admin()
    command = agents.command_of(cluster)
    token = command.split()[2].rpartition("/enrol/")[2]
    objects = [
        item
        for part in yaml.safe_load_all(agents.file_of(token))
        for item in part.get("items", [part])
    ]
    apply(admin, objects)
    request.addfinalizer(lambda: _take_away(admin, objects))
    data = admin.get("/api/v1/namespaces/gpuyard-system/secrets/gpuyard-agent")["data"]
    secret = tmp_path / "secret"
    secret.mkdir()
    for name, text in data.items():
        (secret / name).write_bytes(base64.b64decode(text))
    account = write_account(tmp_path / "account", kube_owned, request_token(admin))
    on.trust(cluster.id)
    more = ("-cluster", (secret / "cluster").read_text(), "-commands")
    with relaying_at(kube_owned.api_url, account, binary, secret, on.serving.port, more=more):
        until(lambda: on.is_connected(cluster.id), "it is connected", deadline_s=20)
        assert seen(cluster).state == ClusterState.READY
    own = "/apis/apps/v1/namespaces/gpuyard-system/deployments/gpuyard-agent"
    assert admin.get(own)["spec"]["template"]["spec"]["serviceAccountName"] == "gpuyard"


def _take_away(admin: Any, objects: list[Any]) -> None:
    """What the other tests' cluster does not have: the agent's own part."""
    for item in objects:
        if item["metadata"]["name"] in ("gpuyard-agent", "agent"):
            admin.delete(path_of(item))


def test_a_watch_comes_through_event_by_event(cluster: ClusterView, agent: RelayProcess) -> None:
    found, stop = seen(cluster), threading.Event()

    def watch() -> None:
        try:
            Watcher().run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        view = rent(found)
        instance_loop.run(seconds=0.1)
        until(lambda: now(view).state == "ready", "the watch alone has told", deadline_s=20)
    finally:
        stop.set()
        thread.join(20)
    end(view)
    reaches(view, "gone")


def test_while_it_is_away_the_cluster_says_so_and_comes_back(
    kube_owned: Any, sim: Any, on: Platform, cluster: ClusterView, binary: Path, tmp_path: Path
) -> None:
    offline = seen(cluster)
    assert (offline.state, offline.reason) == (ClusterState.UNREACHABLE, "agent_offline")
    assert "kubectl logs" in offline.detail
    with running_agent(binary, tmp_path, kube_owned, on, cluster.id):
        assert seen(cluster).state == ClusterState.READY
    until(lambda: not on.is_connected(cluster.id), "it is gone", deadline_s=30)
    client = client_of(cluster)
    # A connection that was kept from before breaks; each new one is told.
    until(lambda: failure(client) == "agent_offline", "the door says so", deadline_s=30)
    began = time.monotonic()
    assert failure(client) == "agent_offline"
    assert time.monotonic() - began < 6
    with running_agent(binary, tmp_path, kube_owned, on, cluster.id):
        assert seen(cluster).state == ClusterState.READY


# What an account with every right could do, and its agent does not.
REFUSED = [
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01/secrets"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01/secrets/any"),
    ("GET", "/api/v1/namespaces/kube-system/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-system/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01/../kube-system/secrets"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01%2F..%2Fkube-system/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01/pods/any/exec"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/pods/any/exec"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/pods/any/attach"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/pods/any/portforward"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/pods/any/eviction"),
    ("PATCH", "/api/v1/namespaces/gpuyard-r-01/pods/any"),
    ("PATCH", "/api/v1/namespaces/gpuyard-r-01/pods/any/ephemeralcontainers"),
    ("DELETE", "/api/v1/namespaces/gpuyard-r-01/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-r-01/services/any/proxy"),
    ("GET", "/api/v1/nodes/any/proxy/pods"),
    ("PATCH", "/api/v1/nodes/any"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/serviceaccounts/gpuyard/token"),
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("POST", "/apis/apps/v1/namespaces/gpuyard-r-01/deployments"),
    ("POST", "/api/v1/namespaces/gpuyard-r-01/persistentvolumes"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/gpuyard-system/leases/other"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "//api/v1/nodes"),
]


_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_STRONG = "test-strong"


@pytest.fixture
def strong_token(kube_owned: Any) -> Iterator[str]:
    """Of an account that may do everything."""
    admin = kube_owned.admin()
    accounts = "/api/v1/namespaces/gpuyard-system/serviceaccounts"
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    rules.append({"nonResourceURLs": ["*"], "verbs": ["*"]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _STRONG}
    subject = {"kind": "ServiceAccount", "name": _STRONG, "namespace": "gpuyard-system"}
    named = {"metadata": {"name": _STRONG}}
    admin.post(accounts, named)
    admin.post(f"{_RBAC}/clusterroles", {**named, "rules": rules})
    binding = {**named, "roleRef": role, "subjects": [subject]}
    admin.post(f"{_RBAC}/clusterrolebindings", binding)
    yield request_token(admin, account=_STRONG)
    admin.delete(f"{_RBAC}/clusterrolebindings/{_STRONG}")
    admin.delete(f"{_RBAC}/clusterroles/{_STRONG}")
    admin.delete(f"{accounts}/{_STRONG}")


def test_what_is_not_on_its_list_is_not_executed_by_an_account_that_could(
    kube_owned: Any,
    on: Platform,
    cluster: ClusterView,
    binary: Path,
    tmp_path: Path,
    strong_token: str,
) -> None:
    with running_agent(binary, tmp_path, kube_owned, on, cluster.id, token=strong_token) as agent:
        client = client_of(cluster)
        assert client.request("GET", "/api/v1/nodes")["kind"] == "NodeList"
        for method, path in REFUSED:
            body: Any = {"metadata": {}} if method in ("POST", "PATCH") else None
            with pytest.raises(VendorError) as caught:
                client.request(method, path, body=body)
            assert code_of(caught.value) == "agent_outdated", (method, path, caught.value)
        agent.until_said("not on its list", times=len(REFUSED))


def test_another_key_sends_the_old_agent_away(
    kube_owned: Any, sim: Any, on: Platform, cluster: ClusterView, binary: Path, tmp_path: Path
) -> None:
    with running_agent(binary, tmp_path / "one", kube_owned, on, cluster.id):
        assert seen(cluster).state == ClusterState.READY
        with transaction.atomic():
            access.relay_values(cluster_id=cluster.id, replace=True)
        # The old one is still connected for a moment: it is known by its certificate no more.
        assert failure(client_of(cluster)) == "bad_ca"
        on.trust(cluster.id)
        until(lambda: not on.is_connected(cluster.id), "it was sent away", deadline_s=10)
    with running_agent(binary, tmp_path / "two", kube_owned, on, cluster.id):
        assert seen(cluster).state == ClusterState.READY


def test_who_asks_without_the_token_is_not_heard(cluster: ClusterView, agent: RelayProcess) -> None:
    client = client_of(cluster)
    client._headers["Authorization"] = "Bearer " + "x" * 43
    assert failure(client) == "unauthorized"


def test_it_executes_no_more_than_it_may(cluster: ClusterView, agent: RelayProcess) -> None:
    """300 at once, then 100 a second: whoever asks faster waits."""
    client, began = client_of(cluster), time.monotonic()
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda _: client.request("GET", "/version"), range(600)))
    assert time.monotonic() - began > 2.9
