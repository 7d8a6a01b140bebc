"""The simulated data centre on a real control plane: what a provider hands over behaves like it.

Pods are created with the platform's minimal token; admin rights only prepare and look.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.kube.api import Api, ApiError, Json
from tests.live.conftest import NODE_GRACE_S
from tests.live.pods import (
    find,
    main_state,
    pods_path,
    proof,
    remove,
    rental_pod,
    running,
    until,
)

pytestmark = pytest.mark.live

SPACE = "gpuyard-r-01"
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
CARDS_4090 = {"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"}
NODE = "dc-owned-rtx-4090-01"


@pytest.fixture(scope="module")
def tenant(kube_owned):
    return kube_owned.tenant()


@pytest.fixture(scope="module")
def admin(kube_owned):
    return kube_owned.admin()


@pytest.fixture
def pod_name(request, tenant, sim):
    """A name of its own for the test's pod, which is gone before the next test."""
    name = request.node.name.replace("_", "-").replace("[", "-").rstrip("]").lower()[:60]
    yield name
    sim.clear()
    remove(tenant, SPACE, name)


def create(tenant: Api, body: Json) -> Json:
    """A server that counts a quota for several clients at once refuses some; they ask again."""
    while True:
        try:
            return tenant.post(pods_path(SPACE), body)
        except ApiError as error:
            if error.reason != "Conflict" or "resourcequotas" not in str(error):
                raise


def holders(sim) -> dict[str, str]:
    """Card -> UID of the pod that holds it."""
    return {
        device["uid"]: device["holder"]
        for node in sim.state()["nodes"]
        for device in node["devices"]
        if device["holder"]
    }


# -- the way to running -----------------------------------------------------------------------


def test_pod_runs_on_a_node_with_the_card_and_proves_it(tenant, admin, sim, pod_name):
    create(tenant, rental_pod(pod_name, cards=2, selector=H100))
    pod = running(tenant, SPACE, pod_name)
    node = admin.get(f"/api/v1/nodes/{pod['spec']['nodeName']}")
    assert node["metadata"]["labels"].items() >= H100.items()
    status = pod["status"]
    assert status["phase"] == "Running"
    assert status["podIP"].rpartition(".")[0] == node["spec"]["podCIDR"].rpartition(".")[0]
    assert status["hostIP"] == node["status"]["addresses"][0]["address"]
    assert status["containerStatuses"][0]["containerID"].startswith("containerd://")
    report = proof(pod)
    assert [d["model"] for d in report["devices"]] == ["NVIDIA-H100-80GB-HBM3"] * 2
    assert [d["memory_mib"] for d in report["devices"]] == [81559] * 2
    assert report["driver"] == "550.54.15"
    held = [card for card, holder in holders(sim).items() if holder == pod["metadata"]["uid"]]
    assert sorted(held) == sorted(device["uid"] for device in report["devices"])


def test_required_affinity_by_node_name_is_honoured(tenant, pod_name):
    create(tenant, rental_pod(pod_name, node="dc-owned-h100-sxm-03"))
    assert running(tenant, SPACE, pod_name)["spec"]["nodeName"] == "dc-owned-h100-sxm-03"


def test_pod_without_toleration_or_beyond_capacity_stays_pending(tenant, pod_name):
    create(tenant, rental_pod(pod_name, cards=9))
    pod = until("refused by the scheduler", lambda: _unschedulable(tenant, pod_name))
    assert "Insufficient nvidia.com/gpu" in pod["status"]["conditions"][0]["message"]


def _unschedulable(tenant, name):
    pod = find(tenant, SPACE, name)
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return pod if any(c.get("reason") == "Unschedulable" for c in conditions) else None


def test_events_tell_the_story(tenant, pod_name):
    create(tenant, rental_pod(pod_name, selector=CARDS_4090))
    uid = running(tenant, SPACE, pod_name)["metadata"]["uid"]

    def reasons() -> list[str]:
        events = tenant.get(
            f"/api/v1/namespaces/{SPACE}/events", fieldSelector=f"involvedObject.uid={uid}"
        )
        return [event["reason"] for event in events["items"]]

    until("events posted", lambda: {"Scheduled", "Pulled", "Started"} <= set(reasons()))


def test_create_to_running_is_quick_when_idle(tenant, pod_name, record_property):
    """Prints the measured times; the bound is loose because other programs share the cores."""
    times = []
    for _ in range(15):
        began = time.monotonic()
        create(tenant, rental_pod(pod_name, selector=CARDS_4090))
        running(tenant, SPACE, pod_name)
        times.append((time.monotonic() - began) * 1000)
        remove(tenant, SPACE, pod_name)
    times.sort()
    line = f"create to ready: median {times[7]:.0f} ms, worst {times[-1]:.0f} ms"
    record_property("measured", line)
    print(line)
    assert times[7] < 1000


# -- rights and policies ----------------------------------------------------------------------


def forbidden_pods():
    def changed(**parts):
        body = rental_pod("forbidden")
        body["spec"] |= parts
        return body

    privileged = rental_pod("forbidden")
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    capable = rental_pod("forbidden")
    capable["spec"]["containers"][0]["securityContext"] = {"capabilities": {"add": ["SYS_ADMIN"]}}
    port = rental_pod("forbidden")
    port["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    unconfined = rental_pod("forbidden")
    unconfined["spec"]["securityContext"] = {"seccompProfile": {"type": "Unconfined"}}
    return {
        "privileged": privileged,
        "capability": capable,
        "host-port": port,
        "unconfined": unconfined,
        "host-path": changed(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
        "host-pid": changed(hostPID=True),
        "host-network": changed(hostNetwork=True),
        "host-ipc": changed(hostIPC=True),
    }


@pytest.mark.parametrize("kind", list(forbidden_pods()))
def test_forbidden_pod_is_refused_in_a_dry_run(tenant, kind):
    with pytest.raises(ApiError) as refused:
        tenant.post(pods_path(SPACE), forbidden_pods()[kind], dryRun="All")
    assert refused.value.status == 403
    assert "PodSecurityPolicy" in refused.value.message


def test_ordinary_pod_passes_the_dry_run_and_leaves_nothing(tenant):
    tenant.post(pods_path(SPACE), rental_pod("dry"), dryRun="All")
    assert find(tenant, SPACE, "dry") is None


REFUSED = [
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets"),
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets/any"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/namespaces/default/pods"),
    ("GET", "/api/v1/namespaces/kube-system/secrets"),
    ("GET", f"/api/v1/nodes/{NODE}/proxy/"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods/any/exec?command=id"),
    ("DELETE", f"/api/v1/nodes/{NODE}"),
    ("PATCH", f"/api/v1/namespaces/{SPACE}/pods/any"),
    ("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies/egress"),
    ("DELETE", f"/api/v1/namespaces/{SPACE}/resourcequotas/gpuyard"),
    ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/rolebindings"),
    ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token"),
]


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_token_can_do_no_more_than_its_role(tenant, method, path):
    body: Json | None = {"metadata": {}} if method in {"POST", "PATCH"} else None
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as refused:
        tenant.call(method, path, body, kind)
    assert refused.value.status == 403


def may(api: Api, namespace: str, verb: str, resource: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "resource": resource}
    review = api.post(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": attributes}},
    )
    return bool(review["status"]["allowed"])


def test_pool_is_found_by_asking_until_the_first_no(tenant, kube_owned):
    number = 0
    while may(tenant, f"gpuyard-r-{number + 1:02d}", "create", "pods"):
        number += 1
    assert number == kube_owned.namespaces == 16
    assert not may(tenant, "default", "create", "pods")
    assert not may(tenant, SPACE, "get", "secrets")


def test_every_rental_namespace_has_its_policies(tenant):
    for number in range(1, 17):
        space = f"gpuyard-r-{number:02d}"
        policies = tenant.get(f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies")
        found = {item["metadata"]["name"]: item["spec"] for item in policies["items"]}
        assert set(found) == {"default-deny", "egress", "egress-web", "relay"}
        assert set(found["default-deny"]["policyTypes"]) == {"Ingress", "Egress"}
        assert "ingress" not in found["default-deny"]
        blocked = found["egress"]["egress"][1]["to"][0]["ipBlock"]["except"]
        assert {"10.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10"} <= set(blocked)
        assert tenant.get(f"/api/v1/namespaces/{space}/resourcequotas")["items"]


def test_token_lives_thirty_days_and_renews_itself_alone(tenant, kube_owned):
    payload = kube_owned.token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] - claims["iat"] == 30 * 24 * 3600
    renewed = tenant.post(
        "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard/token",
        {"spec": {"expirationSeconds": 3600}},
    )
    again = Api(kube_owned.api_url, kube_owned.ca_pem, token=renewed["status"]["token"])
    assert again.get("/api/v1/nodes")["items"]


# -- devices ----------------------------------------------------------------------------------


def test_no_card_is_ever_given_to_two_live_pods(kube_owned, sim):
    """Four clients want up to 12 of 8 cards, again and again, and only the proofs are counted:
    from the moment a proof is seen until its pod's deletion is asked for, no other pod may show
    the same card."""
    live: dict[str, str] = {}
    lock = threading.Lock()
    doubles: list[str] = []

    def client(number: int) -> None:
        api = kube_owned.tenant()
        for turn in range(8):
            name = f"storm-{number}-{turn}"
            create(api, rental_pod(name, cards=1 + turn % 3, selector=CARDS_4090, grace_s=1))
            pod = running(api, SPACE, name)
            cards = [device["uid"] for device in proof(pod)["devices"]]
            with lock:
                doubles.extend(f"{c} {live[c]} {name}" for c in cards if c in live)
                live.update(dict.fromkeys(cards, name))
            for _ in range(5):  # it lives for a while, beside the pods of the others
                assert proof(running(api, SPACE, name))["devices"] == proof(pod)["devices"]
            with lock:
                for card in cards:
                    live.pop(card, None)
                # Asked for under the lock: from here on the cards may be given away.
                api.delete(pods_path(SPACE, name))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    assert not doubles
    until("all cards given back", lambda: not holders(sim))


def test_cards_are_not_given_away_before_the_pod_is_gone(tenant, sim, pod_name):
    """A pod that takes its whole grace period to stop keeps its cards until the very end."""
    first, second = pod_name[:50] + "-1", pod_name[:50] + "-2"
    try:
        create(tenant, rental_pod(first, cards=4, node=NODE, grace_s=2))
        before = {d["uid"] for d in proof(running(tenant, SPACE, first))["devices"]}
        with sim.fault("slow_stop", {"pod": first}):
            began = time.monotonic()
            tenant.delete(pods_path(SPACE, first))
            create(tenant, rental_pod(second, cards=4, node=NODE))
            assert set(holders(sim)) == before
            until("the first is gone", lambda: find(tenant, SPACE, first) is None)
            assert time.monotonic() - began > 1.5
        after = {d["uid"] for d in proof(running(tenant, SPACE, second))["devices"]}
        assert before == after
    finally:
        remove(tenant, SPACE, first)
        remove(tenant, SPACE, second)


# -- the end ----------------------------------------------------------------------------------


def test_deletion_is_observed_by_a_watch(tenant, pod_name):
    create(tenant, rental_pod(pod_name, selector=CARDS_4090))
    pod = running(tenant, SPACE, pod_name)
    seen: list[str] = []

    def follow() -> None:
        events = tenant.watch(
            pods_path(SPACE),
            silence_s=30,
            fieldSelector=f"metadata.name={pod_name}",
            resourceVersion=pod["metadata"]["resourceVersion"],
        )
        for event in events:
            seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    tenant.delete(pods_path(SPACE, pod_name))
    watcher.join(15)
    assert seen[-1] == "DELETED"
    assert "MODIFIED" in seen, "the deletion is announced before it is final"


# -- faults -----------------------------------------------------------------------------------


def test_slow_pull_holds_the_pod_until_withdrawn(tenant, sim, pod_name):
    order = sim.order("slow_pull", {"pod": pod_name}, {"seconds": 60})
    body = rental_pod(pod_name, selector=CARDS_4090)
    for container in body["spec"]["initContainers"] + body["spec"]["containers"]:
        container["imagePullPolicy"] = "Always"
    create(tenant, body)

    def waits() -> bool:
        state = main_state(find(tenant, SPACE, pod_name))
        return state.get("waiting") == {"reason": "PodInitializing"}

    until("waiting for its image", waits)
    sim.withdraw(order)
    running(tenant, SPACE, pod_name)


def test_pull_error_is_reported_and_ends(tenant, sim, pod_name):
    body = rental_pod(pod_name, selector=CARDS_4090)
    body["spec"]["initContainers"][0]["image"] = "registry.example.com/missing@sha256:" + "2" * 64
    with sim.fault("pull_error", {"pod": pod_name}, {"message": "not found", "backoff_s": 1}):
        create(tenant, body)

        def waits_for(reason: str) -> bool:
            pod = find(tenant, SPACE, pod_name) or {}
            statuses = pod.get("status", {}).get("initContainerStatuses", [])
            return any(s["state"].get("waiting", {}).get("reason") == reason for s in statuses)

        until("ErrImagePull", lambda: waits_for("ErrImagePull"))
        until("ImagePullBackOff", lambda: waits_for("ImagePullBackOff"))
    running(tenant, SPACE, pod_name)


def test_crash_restarts_and_backs_off(tenant, sim, pod_name):
    create(tenant, rental_pod(pod_name, selector=CARDS_4090))
    before = running(tenant, SPACE, pod_name)
    with sim.fault("crash", {"pod": pod_name}, {"exit_code": 137, "backoff_s": 60}):

        def crashed():
            pod = find(tenant, SPACE, pod_name)
            waiting = main_state(pod).get("waiting", {})
            return pod if waiting.get("reason") == "CrashLoopBackOff" else None

        status = until("CrashLoopBackOff", crashed)["status"]
        (main,) = status["containerStatuses"]
        assert main["restartCount"] >= 1
        assert main["lastState"]["terminated"]["exitCode"] == 137
        assert readiness({"status": status}) == "False"
    after = running(tenant, SPACE, pod_name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    ids = [pod["status"]["containerStatuses"][0]["containerID"] for pod in (before, after)]
    assert ids[0] != ids[1]
    assert proof(after) == proof(before)


def test_init_failure_never_becomes_ready(tenant, sim, pod_name):
    with sim.fault("init_failure", {"pod": pod_name}, {"message": "no card", "backoff_s": 0.2}):
        create(tenant, rental_pod(pod_name, selector=CARDS_4090))

        def failed():
            pod = find(tenant, SPACE, pod_name) or {}
            for status in pod.get("status", {}).get("initContainerStatuses", []):
                last = status.get("lastState", {}).get("terminated", {})
                if status["restartCount"] and last:
                    return pod, last
            return None

        pod, last = until("failed once", failed)
        assert (last["exitCode"], last["message"]) == (1, "no card")
        assert pod["status"]["phase"] == "Pending"
    running(tenant, SPACE, pod_name)


@pytest.mark.parametrize(
    ("kind", "params", "seen"),
    [
        ("wrong_count", {"missing": 1}, (1, "NVIDIA-GeForce-RTX-4090", 24564)),
        ("wrong_model", {"model": "NVIDIA-T400", "memory_mib": 2048}, (2, "NVIDIA-T400", 2048)),
    ],
)
def test_check_can_see_other_cards_than_ordered(tenant, sim, pod_name, kind, params, seen):
    with sim.fault(kind, {"pod": pod_name}, params):
        create(tenant, rental_pod(pod_name, cards=2, selector=CARDS_4090))
        devices = proof(running(tenant, SPACE, pod_name))["devices"]
        assert (len(devices), devices[0]["model"], devices[0]["memory_mib"]) == seen


def test_lost_card_lowers_allocatable_and_comes_back(tenant, admin, sim):
    def offered() -> str:
        status = admin.get(f"/api/v1/nodes/{NODE}")["status"]
        return f"{status['allocatable']['nvidia.com/gpu']}/{status['capacity']['nvidia.com/gpu']}"

    assert offered() == "4/4"
    with sim.fault("lost_gpu", {"node": NODE}, {"cards": 2}):
        until("two cards lost", lambda: offered() == "2/4")
    until("cards back", lambda: offered() == "4/4")


def readiness(body: Json | None) -> str | None:
    """Status of the Ready condition of a node or pod."""
    conditions = (body or {}).get("status", {}).get("conditions", [])
    return {condition["type"]: condition["status"] for condition in conditions}.get("Ready")


def test_silent_node_turns_unknown_and_its_pod_survives(tenant, admin, sim, pod_name):
    create(tenant, rental_pod(pod_name, node=NODE))
    before = running(tenant, SPACE, pod_name)
    node = f"/api/v1/nodes/{NODE}"
    with sim.fault("silent_node", {"node": NODE}):
        until("Unknown", lambda: readiness(admin.get(node)) == "Unknown", NODE_GRACE_S + 20)
        until("pod unready", lambda: readiness(find(tenant, SPACE, pod_name)) == "False")
    until("Ready again", lambda: readiness(admin.get(node)) == "True")
    after = running(tenant, SPACE, pod_name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    main = [pod["status"]["containerStatuses"][0] for pod in (before, after)]
    assert main[0]["containerID"] == main[1]["containerID"]


def test_pod_of_a_silent_node_cannot_be_confirmed_gone(tenant, sim, pod_name):
    create(tenant, rental_pod(pod_name, node=NODE, grace_s=1))
    running(tenant, SPACE, pod_name)
    with sim.fault("silent_node", {"node": NODE}):
        tenant.delete(pods_path(SPACE, pod_name))
        grace_over = time.monotonic() + 2
        until("grace over", lambda: time.monotonic() > grace_over)
        assert tenant.get(pods_path(SPACE, pod_name))["metadata"]["deletionTimestamp"]
    until("gone", lambda: find(tenant, SPACE, pod_name) is None)


# -- outages ----------------------------------------------------------------------------------


def test_pods_go_on_after_the_nodes_were_restarted(kube_stack, tenant, sim, pod_name):
    """The new simulator takes over running pods with their own cards and goes on with the rest."""
    create(tenant, rental_pod(pod_name, cards=2, node=NODE))
    before = running(tenant, SPACE, pod_name)
    held = holders(sim)
    kube_stack.stop_simulator("dc-owned")
    other = pod_name[:50] + "-2"
    try:
        create(tenant, rental_pod(other, cards=2, node="dc-owned-h100-sxm-01"))
        kube_stack.start_simulator("dc-owned")
        new = running(tenant, SPACE, other)
        after = tenant.get(pods_path(SPACE, pod_name))
        assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
        assert held.items() < holders(sim).items()
        assert set(held).isdisjoint(device["uid"] for device in proof(new)["devices"])
    finally:
        remove(tenant, SPACE, other)
    remove(tenant, SPACE, pod_name)
    assert not holders(sim)


def test_cluster_comes_back_after_its_api_server_was_away(kube_stack, tenant, sim, pod_name):
    create(tenant, rental_pod(pod_name, node=NODE))
    before = running(tenant, SPACE, pod_name)
    plane = kube_stack.planes["dc-owned"]
    plane.stop_api_server()
    try:
        with pytest.raises(OSError, match="refused"):
            tenant.get(pods_path(SPACE, pod_name))
    finally:
        plane.start_api_server()
    after = running(tenant, SPACE, pod_name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    remove(tenant, SPACE, pod_name)
    until("its card is free", lambda: not holders(sim))


# -- processes --------------------------------------------------------------------------------


def test_nothing_outlives_a_killed_parent(tmp_path: Path):
    out = tmp_path / "clusters.json"
    command = [sys.executable, "-m", "devstack.kube", "up", "--names", "dc-partner"]
    command += ["--state", str(tmp_path / "state"), "--json-out", str(out), "--namespaces", "1"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert json.loads(parent.stdout.readline()) == {"clusters": str(out)}
        assert out.stat().st_mode & 0o077 == 0
        clusters = json.loads(out.read_text())
        assert list(clusters) == ["dc-partner"]
        running_now = _programs_of(str(tmp_path))
        assert {"etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager"} <= {
            Path(words[0]).name for words in running_now.values()
        }
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    until("all gone", lambda: not _programs_of(str(tmp_path)))


def _programs_of(mark: str) -> dict[int, list[str]]:
    """Command lines of processes that mention `mark`, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if any(mark in word for word in words):
            found[int(entry.name)] = words
    return found
