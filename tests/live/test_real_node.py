"""A real kubelet with containerd, runc and fake cards: pods really run, and nothing stays behind.

Needs root, namespaces and control groups of version 1; elsewhere every test here is skipped with
the reason. Times are printed, not judged: the machine may be busy.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import pytest

from devstack.kube.api import Api
from devstack.kube.controlplane import ControlPlane
from devstack.kube.node.able import why_not
from devstack.kube.node.cards import Group
from devstack.kube.node.node import RealNode
from devstack.kube.stack import Cluster, KubeStack
from devstack.process import Supervisor
from devstack.state import State
from provisioner.inventory.accelerators import by_slug, families
from provisioner.kube import manifests
from provisioner.kube.pods import proof
from tests.golden.test_provisioner_pods import spec
from tests.live.pods import pods_path, until
from tests.live.realpods import (
    ALLOWED,
    NAMESPACE,
    PATIENCE_S,
    a_pod,
    capabilities,
    log,
    logged,
    run,
    status_of,
)
from tests.live.traces import traces

REASON = why_not()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        os.environ.get("KUBE") == "sim", reason="no kubelet joins a simulated plane"
    ),
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]

NVIDIA, HUAWEI = "nvidia.com/gpu", "huawei.com/Ascend910"
PART, PART_SLUG = "nvidia.com/mig-1g.10gb", "nvidia-h100-80gb-sxm-mig-1g.10gb"


@pytest.fixture(scope="module")
def plane(kube_stack: KubeStack) -> ControlPlane:
    return kube_stack.planes["dc-owned"]


@pytest.fixture(scope="module")
def node(plane: ControlPlane) -> Iterator[RealNode]:
    """One node for the whole file: four cards of one vendor, three parts of such cards, and two
    cards of another."""
    cards = [Group("h100-sxm", 4), Group("h100-1g", 3), Group("ascend-910b3", 2)]
    with State.temporary("node") as state, Supervisor(state) as supervisor:
        began = time.monotonic()
        with RealNode(plane, state.path / "node", supervisor, cards=cards, cpus=16) as node:
            print(f"node ready after {time.monotonic() - began:.1f} s")
            yield node


@pytest.fixture(scope="module")
def base(node: RealNode) -> str:
    return node.base_image()


@pytest.fixture
def admin(kube_owned: Cluster) -> Api:
    """Also lets the shared clean-up take away the pods of each test."""
    return kube_owned.admin()


# -- what a provider's node looks like ----------------------------------------------------------


def test_the_node_is_set_aside_labelled_and_has_everything_that_pods_ask_for(node):
    seen = node.seen()
    labels = seen["metadata"]["labels"]
    assert labels["gpuyard.io/pool"] == "rental"
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert labels["nvidia.com/gpu.count"] == "4"
    assert labels["node.kubernetes.io/npu.chip.name"] == "910B3"
    (taint,) = seen["spec"]["taints"]
    assert (taint["key"], taint["value"], taint["effect"]) == (
        "gpuyard.io/pool",
        "rental",
        "NoSchedule",
    )
    allocatable = seen["status"]["allocatable"]
    assert (allocatable[NVIDIA], allocatable[HUAWEI], allocatable[PART]) == ("4", "2", "3")
    assert allocatable["cpu"] == "16"  # whatever the machine has
    assert allocatable["ephemeral-storage"] not in {"0", ""}


# -- cards ------------------------------------------------------------------------------------


def test_a_pod_with_two_of_four_cards_sees_exactly_those(node, base, admin):
    script = (
        "nvidia-smi -L; echo; nvidia-smi --query-gpu=uuid,utilization.gpu,memory.used,memory.total,"
        "temperature.gpu --format=csv,noheader,nounits; echo; env -i /usr/bin/nvidia-smi -L; echo;"
        "echo $NVIDIA_VISIBLE_DEVICES; sleep infinity"
    )
    node.use_card(node.cards.of(NVIDIA)[0].id, utilization=71, used_mib=4096, celsius=66)
    run(admin, a_pod(node, base, "gy-two-cards", script, cards={NVIDIA: 2}))
    listed, used, bare, visible = logged(admin, "gy-two-cards", "\n\nGPU-").split("\n\n")
    ids = visible.strip().split(",")
    assert len(ids) == 2
    by_id = {card.id: card for card in node.cards.of(NVIDIA)}
    assert (
        listed.splitlines()
        == bare.splitlines()
        == [f"GPU {index}: NVIDIA-H100-80GB-HBM3 (UUID: {each})" for index, each in enumerate(ids)]
    )
    assert used.splitlines() == [
        f"{each}, {by_id[each].utilization}, {by_id[each].used_mib}, 81559, {by_id[each].celsius}"
        for each in ids
    ]


def test_the_tools_image_alone_checks_the_cards_and_tells_what_is_in_use(node, base, admin, binary):
    """With no word of the renter's image, and the same cards as the program gets after it."""
    card = node.cards.of(NVIDIA)[0]
    node.use_card(card.id, utilization=3, used_mib=9000, celsius=40)
    family = families()[NVIDIA]
    check = {
        "name": "gpuyard-check",
        "image": node.tools_image(binary),
        "command": ["/podtools", "check", "/dev/termination-log", family.check.strip(),
                    family.usage.strip(), "/run/gpuyard/bin"],
        "volumeMounts": [{"name": "bin", "mountPath": "/run/gpuyard/bin"}],
        "resources": {"limits": {NVIDIA: "4"}},
    }  # fmt: skip
    mount = {"name": "bin", "mountPath": "/run/gpuyard/bin", "readOnly": True}
    pod = a_pod(
        node,
        base,
        "gy-one-init",
        "ls /run/gpuyard/bin; nvidia-smi -L | wc -l; echo done; sleep infinity",
        cards={NVIDIA: 4},
        initContainers=[check],
        main={"volumeMounts": [mount]},
        volumes=[{"name": "bin", "emptyDir": {}}],
    )
    (checked,) = run(admin, pod)["status"]["initContainerStatuses"]
    devices = proof(checked["state"]["terminated"]["message"])
    assert devices is not None
    used = {device.uid: device.used_mib for device in devices}
    assert used[card.id] == 9000
    assert set(used) == {each.id for each in node.cards.of(NVIDIA)}
    assert logged(admin, "gy-one-init", "done") == "podtools\n4\ndone\n"


@pytest.mark.parametrize(("resource", "count"), [(PART, 2), (NVIDIA, 2)])
def test_the_check_as_it_is_ordered_proves_parts_or_cards(
    node, base, admin, binary, resource, count
):
    """The very words of a rental's pod, whichever the kubelet gave it."""
    name = f"gy-proof-{count}-{'part' if resource == PART else 'card'}"
    whole, part = by_slug()["nvidia-h100-80gb-sxm"][1], by_slug()[PART_SLUG][1]
    (ordered,) = manifests.pod(spec(PART_SLUG))["spec"]["initContainers"]
    check = {
        "name": "gpuyard-check",
        "image": node.tools_image(binary),
        "command": ordered["command"],
        "volumeMounts": [{"name": "bin", "mountPath": "/run/gpuyard/bin"}],
        "resources": {"limits": {resource: str(count)}},
    }
    pod = a_pod(
        node,
        base,
        name,
        "sleep infinity",
        cards={resource: count},
        initContainers=[check],
        volumes=[{"name": "bin", "emptyDir": {}}],
    )
    (checked,) = run(admin, pod)["status"]["initContainerStatuses"]
    devices = proof(checked["state"]["terminated"]["message"])
    assert devices is not None
    assert {each.uid for each in devices} <= {card.id for card in node.cards.of(resource)}
    assert len({each.uid for each in devices}) == count
    model, other = (part, whole) if resource == PART else (whole, part)
    assert all(model.is_named(each.model) and not other.is_named(each.model) for each in devices)
    memory = None if resource == PART else 81559
    assert {each.memory_mib for each in devices} == {memory}


def test_each_vendors_check_reads_its_cards(node, base, admin):
    script = "".join(
        f"{families()[resource].check}\n echo end of {resource}\n" for resource in (NVIDIA, HUAWEI)
    )
    pod = a_pod(node, base, "gy-check", f"{script} sleep infinity", cards={NVIDIA: 1, HUAWEI: 1})
    run(admin, pod)
    lines = logged(admin, "gy-check", f"end of {HUAWEI}").splitlines()
    uid, model, memory = lines[0].split(", ")
    assert uid in {card.id for card in node.cards.of(NVIDIA)}
    assert (model, memory, lines[1]) == ("NVIDIA-H100-80GB-HBM3", "81559", f"end of {NVIDIA}")
    serial, model, memory = lines[2].split(",")
    assert serial in {f"{card.id}-0" for card in node.cards.of(HUAWEI)}
    assert (model, memory) == ("910B3", "65536")


def test_a_dead_card_is_offered_no_more(node, base, admin):
    (card, *_) = node.cards.of(NVIDIA)

    def offered(count: str) -> bool:
        found: str = node.seen()["status"]["allocatable"][NVIDIA]
        return found == count

    node.kill_card(card.id)
    try:
        began = time.monotonic()
        until("three cards", lambda: offered("3"), PATIENCE_S)
        print(f"allocatable fell after {time.monotonic() - began:.2f} s")
        assert node.seen()["status"]["allocatable"][HUAWEI] == "2"
    finally:
        node.revive_card(card.id)
    until("four cards", lambda: offered("4"), PATIENCE_S)


# -- how containers end -----------------------------------------------------------------------


def test_exit_codes_crash_loops_and_lost_memory_are_told(node, base, admin):
    scripts = {
        "gy-exit": "exit 7",
        "gy-crash": "echo once more; exit 3",
        "gy-hog": "exec tail /dev/zero",  # keeps the last line, which never ends
    }
    for name, script in scripts.items():
        policy = "Always" if name == "gy-crash" else "Never"
        admin.post(pods_path(NAMESPACE), a_pod(node, base, name, script, restartPolicy=policy))

    def ended(name: str) -> dict[str, Any]:
        def look() -> Any:
            return status_of(admin, name)["state"].get("terminated")

        found: dict[str, Any] = until(f"the end of {name}", look, PATIENCE_S)
        return found

    def looping() -> bool:
        waiting: dict[str, Any] = status_of(admin, "gy-crash")["state"].get("waiting", {})
        return waiting.get("reason") == "CrashLoopBackOff"

    assert ended("gy-exit")["exitCode"] == 7
    assert (ended("gy-hog")["reason"], ended("gy-hog")["exitCode"]) == ("OOMKilled", 137)
    until("CrashLoopBackOff", looping, PATIENCE_S)
    assert status_of(admin, "gy-crash")["lastState"]["terminated"]["exitCode"] == 3
    assert "once more" in log(admin, "gy-crash", previous="true")


# -- what the product's pods are made of --------------------------------------------------------


def test_a_daemon_of_the_post_start_hook_lives_on(node, base, admin):
    daemon = "while :; do date +%s%N >> /tmp/beats; usleep 50000; done"
    hook = f"setsid sh -c '{daemon}' </dev/null >/dev/null 2>&1 &"
    script = "touch /tmp/beats; exec tail -n +1 -f /tmp/beats"
    main = {"lifecycle": {"postStart": {"exec": {"command": ["/bin/sh", "-c", hook]}}}}
    run(admin, a_pod(node, base, "gy-hook", script, main=main))
    before = log(admin, "gy-hook").count("\n")  # ready: the hook has returned

    until(
        "beats after the hook", lambda: log(admin, "gy-hook").count("\n") > before + 5, PATIENCE_S
    )


def test_tools_of_an_init_container_run_from_a_read_only_mount(node, base, admin, binary):
    """Also images with nothing but one program, the check's report, and a Secret's file."""
    admin.post(
        f"/api/v1/namespaces/{NAMESPACE}/secrets",
        {"metadata": {"name": "gy-keys"}, "stringData": {"key": "not a real one"}},
    )
    mount = {"name": "bin", "mountPath": "/run/gpuyard/bin"}
    keys = {"name": "keys", "mountPath": "/run/gpuyard/keys", "readOnly": True}
    shm = {"name": "shm", "mountPath": "/dev/shm"}
    inits = [
        {
            "name": "gpuyard-tools",
            "image": node.tools_image(binary),
            "command": ["/podtools", "install", "/run/gpuyard/bin"],
            "volumeMounts": [mount],
        },
        {
            "name": "gpuyard-bare",
            "image": node.binary_image(node.runtime / "bin/busybox"),
            "command": ["/busybox", "true"],
        },
        {
            "name": "gpuyard-check",
            "command": ["/bin/sh", "-c", "echo '{\"devices\":[]}' > /dev/termination-log"],
        },
    ]
    script = (
        "/run/gpuyard/bin/podtools 2>&1; touch /run/gpuyard/bin/x 2>&1;"
        "cat /run/gpuyard/keys/key; echo; grep -E 'Seccomp:|CapEff' /proc/self/status;"
        "grep /dev/shm /proc/mounts; echo done; sleep infinity"
    )
    pod = a_pod(
        node,
        base,
        "gy-tools",
        script,
        initContainers=inits,
        main={"volumeMounts": [{**mount, "readOnly": True}, keys, shm]},
        volumes=[
            {"name": "bin", "emptyDir": {}},
            {"name": "keys", "secret": {"secretName": "gy-keys", "defaultMode": 0o400}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ],
    )
    seen = run(admin, pod)
    (_, _, check) = seen["status"]["initContainerStatuses"]
    assert json.loads(check["state"]["terminated"]["message"]) == {"devices": []}
    told = logged(admin, "gy-tools", "done")
    assert "usage: podtools" in told
    assert "Read-only file system" in told
    assert "not a real one" in told
    assert "Seccomp:\t2" in told  # a filter
    assert f"CapEff:\t{capabilities(ALLOWED):016x}" in told
    assert "tmpfs /dev/shm tmpfs" in told


def test_pod_and_machine_reach_each_other(node, base, admin):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"hello {self.client_address[0]}".encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged."""

    with ThreadingHTTPServer((node.address, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script = (
            f"wget -qO- http://{node.address}:{server.server_port}; echo;"
            "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"
        )
        address = run(admin, a_pod(node, base, "gy-net", script))["status"]["podIP"]
        assert address.startswith(node.place.pods.removesuffix("0/24"))
        logged(admin, "gy-net", f"hello {address}")
        server.shutdown()

    def served() -> bool:
        connection = http.client.HTTPConnection(address, 8080, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read() == b"served\n"
        except ConnectionRefusedError:
            return False
        finally:
            connection.close()

    until("the pod's server", served, PATIENCE_S)


def test_an_image_needs_its_digest_to_be_right(node, base, admin):
    """Nothing is fetched: another digest is not there, and no registry either."""
    wrong = base[:-8] + "0" * 8
    admin.post(pods_path(NAMESPACE), a_pod(node, wrong, "gy-wrong", "sleep infinity"))

    def refused() -> bool:
        waiting = status_of(admin, "gy-wrong")["state"].get("waiting", {})
        return waiting.get("reason") in {"ErrImagePull", "ImagePullBackOff"}

    until("the image is missing", refused, PATIENCE_S)


# -- nothing stays ------------------------------------------------------------------------------


def test_a_stopped_node_leaves_nothing_and_started_again_goes_on(plane, admin):
    """A second node beside the first: with a pod it is as if it had never been; then it reboots."""
    with State.temporary("node") as state, Supervisor(state) as supervisor:
        node = RealNode(plane, state.path / "node", supervisor, name="real-2")
        place = node.place
        before = traces(place)
        with node:
            run(admin, a_pod(node, node.base_image(), "gy-last", "sleep infinity"))
            during = traces(place)
            assert during != before
            assert during["processes"]
            node.stop()
            assert traces(place) == before
            node.start()

            def again() -> bool:
                main = status_of(admin, "gy-last")
                return main.get("restartCount", 0) > 0 and "running" in main["state"]

            until("the pod runs again", again, PATIENCE_S)
    assert traces(place) == before


def test_what_a_killed_node_left_goes_with_the_next(plane, admin):
    """Killed together with what would have cleaned up; then once more with its starter alone."""
    with State.temporary("node") as state, Supervisor(state) as supervisor:
        node = RealNode(plane, state.path / "node", supervisor, name="real-3")
        place = node.place
        before = traces(place)
        node.start()
        run(admin, a_pod(node, node.base_image(), "gy-left", "sleep infinity"))
        assert node.process is not None
        node.process.signal(signal.SIGKILL)
        node.process.wait(PATIENCE_S)
        assert not place.processes()
        assert traces(place) != before
    ready, ours = multiprocessing.Pipe()
    given = (plane, place.number, ours)
    starter = multiprocessing.get_context("fork").Process(target=start_and_wait, args=given)
    starter.start()
    try:
        assert ready.poll(PATIENCE_S * 2)
        assert ready.recv() == "ready"
    finally:
        starter.kill()
        starter.join()
    until("nothing left", lambda: traces(place) == before, PATIENCE_S)
    admin.delete("/api/v1/nodes/real-4")  # nobody was there to do it
    node.forget()


def start_and_wait(plane: ControlPlane, number: int, told: Connection) -> None:
    """In a process of its own, which is killed."""
    with State.temporary("node") as state, Supervisor(state) as supervisor:
        node = RealNode(plane, state.path / "node", supervisor, name="real-4", number=number)
        node.start()
        told.send("ready")
        told.recv()
