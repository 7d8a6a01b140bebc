"""Labels, machines, device bookkeeping, proofs and orders of the node simulator."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from devstack.kube import podstatus
from devstack.kube.devices import DeviceBook, NoDevicesError
from devstack.kube.faults import KINDS, OrderError, Orders
from devstack.kube.fleet import FleetError, load_cards, load_fleet, machines

CARDS = load_cards()
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


# -- cards and fleets -------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CARDS))
def test_labels_are_accepted_by_kubernetes_and_name_the_model(name):
    card = CARDS[name]
    (machine,) = machines("dc", [{"card": name, "nodes": 1, "cards": 8, **SIZE}])
    labels = machine.labels()
    for key, value in labels.items():
        assert LABEL_KEY.fullmatch(key), key
        assert LABEL_VALUE.fullmatch(value), (key, value)
    assert card.model in labels.values(), "the check reports what the labeller wrote"


SIZE = {"cpu": 64, "memory_gib": 256, "disk_gib": 1000}


def test_nvidia_labels_agree_with_the_card():
    for card in CARDS.values():
        if card.resource != "nvidia.com/gpu":
            continue
        assert card.labels["nvidia.com/gpu.memory"] == str(card.memory_mib)
        driver = [card.labels[f"nvidia.com/cuda.driver.{part}"] for part in ("major", "minor")]
        assert card.driver.split(".")[:2] == driver
        assert card.cuda is not None
        runtime = [card.labels.get(f"nvidia.com/cuda.runtime.{p}") for p in ("major", "minor")]
        assert runtime == [None, None] or ".".join(map(str, runtime)) == card.cuda


def test_presets_have_several_vendors_sizes_and_machines_kept_by_the_owner():
    owned, partner = load_fleet("dc-owned", "dc-owned"), load_fleet("dc-partner", "dc-partner")
    assert {m.card.resource for m in owned + partner} >= {
        "nvidia.com/gpu",
        "huawei.com/Ascend910",
        "amd.com/gpu",
    }
    for fleet in (owned, partner):
        assert len({m.cards for m in fleet}) > 1
        kept = [m for m in fleet if not m.set_aside]
        assert kept
        assert all("gpuyard.io/pool" not in m.labels() and not m.taints() for m in kept)
        names = [m.name for m in fleet]
        assert len(set(names)) == len(names)
    sold_in_both = {m.card.name for m in owned} & {m.card.name for m in partner}
    assert sold_in_both, "one model is offered by both owners"


def test_set_aside_machines_carry_label_and_taint():
    (machine,) = machines("dc", [{"card": "l40s", "nodes": 1, "cards": 4, **SIZE}])
    assert machine.labels()["gpuyard.io/pool"] == "rental"
    assert machine.taints() == [
        {"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}
    ]
    assert machine.labels()["nvidia.com/gpu.count"] == "4"


def test_unlabelled_machine_has_the_resource_and_no_model():
    (machine,) = machines(
        "dc", [{"card": "l40s", "nodes": 1, "cards": 4, "labelled": False, **SIZE}]
    )
    assert not [key for key in machine.labels() if key.startswith("nvidia.com/")]
    assert machine.capacity()["nvidia.com/gpu"] == "4"


def test_allocatable_is_less_than_capacity_and_follows_health():
    (machine,) = machines("dc", [{"card": "h100-sxm", "nodes": 1, "cards": 8, **SIZE}])
    assert machine.allocatable({"nvidia.com/gpu": 7})["nvidia.com/gpu"] == "7"
    assert int(machine.allocatable({"nvidia.com/gpu": 8})["cpu"]) < int(machine.capacity()["cpu"])


def test_device_ids_are_stable_and_differ_between_cards_nodes_and_clusters():
    def ids(cluster: str) -> list[str]:
        groups = [{"card": "h100-sxm", "nodes": 2, "cards": 8, **SIZE}]
        return [uid for m in machines(cluster, groups) for uid in m.device_uids(cluster)]

    assert ids("dc-a") == ids("dc-a")
    assert len(set(ids("dc-a") + ids("dc-b"))) == 32
    assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ids("dc-a")[0])


@pytest.mark.parametrize(
    ("group", "says"),
    [({"card": "gtx-1"}, "unknown card"), ({"card": "t4", "cars": 1}, "cars")],
)
def test_bad_groups_are_named(group, says):
    with pytest.raises(FleetError, match=says):
        machines("dc", [group])


def test_fleet_files(tmp_path):
    group = {"card": "t4", "nodes": 2, "cards": 1, **SIZE}
    file = tmp_path / "fleet.json"
    file.write_text(json.dumps([group]))
    assert [m.name for m in load_fleet("dc", str(file))] == ["dc-t4-01", "dc-t4-02"]
    with pytest.raises(FleetError, match="no fleet preset"):
        load_fleet("dc", "unheard-of")
    with pytest.raises(FleetError, match=r"\.toml or \.json"):
        load_fleet("dc", "fleet.ini")


# -- devices ----------------------------------------------------------------------------------


def test_cards_are_given_once_and_all_or_nothing():
    book = DeviceBook(["a", "b", "c"])
    assert book.allocate("p1", 2) == ["a", "b"]
    with pytest.raises(NoDevicesError, match="2 devices requested, 1 available"):
        book.allocate("p2", 2)
    assert book.held_by("p2") == []
    assert book.allocate("p3", 1) == ["c"]
    book.release("p1")
    assert book.allocate("p2", 2) == ["a", "b"]


def test_asking_again_gives_the_same_cards():
    book = DeviceBook(["a", "b"])
    assert book.allocate("p1", 1) == book.allocate("p1", 1) == ["a"]


def test_preferred_cards_first_after_a_restart():
    book = DeviceBook(["a", "b", "c"])
    assert book.allocate("p1", 1, preferred=["c"]) == ["c"]


def test_a_broken_card_stays_with_its_holder_and_goes_to_nobody_else():
    book = DeviceBook(["a", "b"])
    book.allocate("p1", 1)
    book.set_unhealthy(["a"])
    assert book.held_by("p1") == ["a"]
    assert book.healthy_count() == 1
    book.release("p1")
    assert book.allocate("p2", 1) == ["b"]
    with pytest.raises(NoDevicesError):
        book.allocate("p3", 1)


# -- proofs and statuses ----------------------------------------------------------------------


def test_proof_has_the_agreed_form():
    text = podstatus.proof(CARDS["h100-sxm"], ["GPU-1"], model="M", memory_mib=81559)
    assert text == (
        '{"devices":[{"uid":"GPU-1","model":"M","memory_mib":81559}],'
        '"driver":"550.54.15","cuda":"12.4"}'
    )
    other = podstatus.proof(CARDS["ascend-910b3"], [], model="M", memory_mib=1)
    assert json.loads(other) == {"devices": [], "driver": "24.1.rc2", "cuda": None}


def test_proof_of_a_whole_node_fits_a_termination_message():
    uids = [f"GPU-{'0' * 36}"] * 8
    card = CARDS["mi300x"]
    text = podstatus.proof(card, uids, model=card.model, memory_mib=card.memory_mib)
    assert len(json.loads(text)["devices"]) == 8


def test_cards_of_a_pod_are_the_larger_of_check_and_containers():
    def container(count: int) -> dict[str, Any]:
        return {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}

    spec = {"initContainers": [container(2)], "containers": [container(1), container(3)]}
    assert podstatus.cards_requested(spec, "nvidia.com/gpu") == 4
    assert podstatus.cards_requested({"containers": [{}]}, "nvidia.com/gpu") == 0
    spec = {"initContainers": [container(2)], "containers": [container(1)]}
    assert podstatus.cards_requested(spec, "nvidia.com/gpu") == 2


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("ubuntu", "docker.io/library/ubuntu"),
        ("ubuntu:22.04", "docker.io/library/ubuntu"),
        ("team/tool:1", "docker.io/team/tool"),
        ("registry.example.com:5000/a/b:1", "registry.example.com:5000/a/b"),
        ("localhost/a", "localhost/a"),
    ],
)
def test_image_ids_are_repository_and_digest(image, repository):
    found, _, digest = podstatus.image_id(image).partition("@")
    assert found == repository
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    pinned = "sha256:" + "7" * 64
    assert podstatus.image_id(f"{image}@{pinned}") == f"{repository}@{pinned}"


def test_conditions_keep_their_time_until_they_change():
    status = podstatus.container_status({"name": "main", "image": "x"}, "ContainerCreating")
    old = [{"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
    made = {c["type"]: c for c in podstatus.conditions([], [status], old)}
    assert made["Ready"]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert made["Ready"]["message"] == "containers with unready status: [main]"
    status["ready"] = True
    made = {c["type"]: c for c in podstatus.conditions([], [status], old)}
    assert made["Ready"]["status"] == "True"
    assert made["Ready"]["lastTransitionTime"] > "2020-01-01T00:00:00Z"


def test_a_restarted_container_remembers_how_it_ended():
    status = podstatus.container_status({"name": "main", "image": "x"}, "ContainerCreating")
    podstatus.start_container(status)
    first = status["containerID"]
    podstatus.end_container(status, 137)
    podstatus.start_container(status)
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["lastState"]["terminated"]["containerID"] == first != status["containerID"]


# -- orders -----------------------------------------------------------------------------------

POD = {"namespace": "s", "name": "abc-1", "labels": {"rental": "7"}}


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"pod": "abc-1"}, True),
        ({"pod": "abc-*"}, True),
        ({"pod": "abc"}, False),
        ({"node": "n"}, True),
        ({"node": "m"}, False),
        ({"namespace": "t"}, False),
        ({"labels": {"rental": "7"}}, True),
        ({"labels": {"rental": "8"}}, False),
    ],
)
def test_orders_match_what_they_name(match, fits):
    orders = Orders()
    orders.place("crash", match, {})
    assert (orders.for_pod("crash", "n", POD) is not None) == fits
    assert orders.for_pod("slow_pull", "n", POD) is None


def test_newest_order_wins_and_withdrawing_uncovers_the_older():
    orders = Orders()
    orders.place("slow_pull", {}, {"seconds": 5})
    newer = orders.place("slow_pull", {}, {})
    found = orders.for_pod("slow_pull", "n", POD)
    assert found is not None
    assert found.params == {"seconds": 30.0}
    assert orders.withdraw(newer.id)
    assert not orders.withdraw(newer.id)
    found = orders.for_pod("slow_pull", "n", POD)
    assert found is not None
    assert found.params == {"seconds": 5}


@pytest.mark.parametrize(
    ("kind", "match", "params"),
    [
        ("explode", {}, {}),
        ("lost_gpu", {"pod": "x"}, {}),
        ("crash", {"nodes": "x"}, {}),
        ("crash", {"labels": "x"}, {}),
        ("crash", {"pod": 7}, {}),
        ("crash", {}, {"exit_code": "1"}),
        ("crash", {}, {"exit_code": True}),
        ("crash", {}, {"unheard": 1}),
        ("slow_pull", {}, {"seconds": "5"}),
    ],
)
def test_senseless_orders_are_refused_and_not_kept(kind, match, params):
    orders = Orders()
    with pytest.raises(OrderError):
        orders.place(kind, match, params)
    assert orders.standing() == []


def test_every_kind_can_be_ordered_with_its_defaults():
    orders = Orders()
    for kind in KINDS:
        orders.place(kind, {}, {})
    assert len(orders.standing()) == len(KINDS)


def test_a_mixed_machine_has_every_kind_with_ids_of_its_own():
    groups = [
        {
            "card": "h100-sxm",
            "cards": 4,
            "also": [{"card": "h100-1g", "cards": 14}, {"card": "ascend-910b3", "cards": 2}],
            **SIZE,
        }
    ]
    (mixed,) = machines("dc", groups)
    counts = {"nvidia.com/gpu": "4", "nvidia.com/mig-1g.10gb": "14", "huawei.com/Ascend910": "2"}
    assert counts.items() <= mixed.capacity().items()
    fewer = mixed.allocatable({"nvidia.com/gpu": 3, "nvidia.com/mig-1g.10gb": 14})
    assert (fewer["nvidia.com/gpu"], fewer["huawei.com/Ascend910"]) == ("3", "2")
    labels = mixed.labels()
    assert labels["nvidia.com/gpu.count"] == "4"
    assert labels["nvidia.com/mig-1g.10gb.count"] == "14"
    assert labels["nvidia.com/mig.strategy"] == "mixed"
    assert labels["node.kubernetes.io/npu.chip.name"] == "910B3"
    uids = [uid for card, _ in mixed.kinds for uid in mixed.device_uids("dc", card)]
    assert len(set(uids)) == 20
    (plain,) = machines("dc", [{"card": "h100-sxm", "cards": 4, **SIZE}])
    assert plain.device_uids("dc") == mixed.device_uids("dc"), "others beside it change no id"
    for resource in counts:
        spec = {"containers": [{"resources": {"limits": {"cpu": "1", resource: "1"}}}]}
        assert mixed.card_of(spec).resource == resource
    assert mixed.card_of({"containers": [{}]}).name == "h100-sxm"


def test_a_part_leaves_its_memory_to_its_profile():
    said = podstatus.proof(CARDS["h100-1g"], ["MIG-1"], model="x", memory_mib=9856)
    assert json.loads(said)["devices"] == [{"uid": "MIG-1", "model": "x", "memory_mib": None}]


def test_an_unknown_kind_beside_others_is_refused():
    with pytest.raises(FleetError, match="unknown card"):
        machines("dc", [{"card": "l40s", "cards": 1, "also": [{"card": "x", "cards": 1}], **SIZE}])
