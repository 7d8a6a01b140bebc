"""Volumes on a real Kubernetes control plane with a simulated storage system for local disks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from devstack.kube.api import ApiError
from kernel import clock
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.contracts import (
    ClusterView,
    InstanceView,
    PlacementRequest,
    PodOrder,
    StorageDomain,
    VolumeMount,
)
from provisioner.instances import release
from provisioner.models import ClusterLoop, Instance, UnknownVolume, Volume
from provisioner.reconcile import instance_loop, orphans, volume_loop
from provisioner.reconcile.steps import spec_of
from provisioner.volumes.receipt import is_genuine
from provisioner.volumes.wish import pvc_name_of
from tests.area.provisioner.yard import sure
from tests.golden.test_provisioner_pods import violations
from tests.live.pods import find, running
from tests.live.provider import IMAGE, end, now, on_sale

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


def work_until(condition: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """Run the loops of instances and volumes until ``condition()``; its first true value."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        volume_loop.run(seconds=0.2)
        instance_loop.run(seconds=0.2)
        release.recycle()
        time.sleep(0.05)
    return found


def make(cluster: ClusterView, tenant: UUID, size_gib: int = 5) -> UUID:
    key = new_id()
    with transaction.atomic():
        facade.create_volume(
            volume_id=key, tenant_ref=tenant, cluster_id=cluster.id, size_gib=size_gib
        )
    return key


def state(key: UUID) -> str:
    return facade.volumes(ids=[key])[0].state.value


def rent_with(cluster: ClusterView, tenant: UUID, *mounts: VolumeMount) -> InstanceView:
    """As the marketplace does: planned where the data is."""
    groups = facade.groups(provider_ref=cluster.provider_ref)
    wanted = tuple(g.id for g in groups if g.accelerator == "nvidia-h100-80gb-sxm")
    there = facade.volumes(ids=[mount.volume_id for mount in mounts])
    request = PlacementRequest(
        wanted,
        1,
        1024,
        tenant,
        cluster_ids=tuple({volume.cluster_id for volume in there}),
        node_ids=tuple({volume.node_id for volume in there if volume.node_id}),
        needs_storage=any(mount.create_gib for mount in mounts),
    )
    with transaction.atomic():
        return facade.reserve(
            plan=facade.plan(request),
            instance_id=new_id(),
            rental_ref=new_id(),
            tenant_ref=tenant,
            order=PodOrder(image=IMAGE, command=("sleep", "infinity"), volumes=mounts),
            gpus=1,
            disk_mib=1024,
        )


def claim_of(kube: Any, namespace: str, key: UUID) -> dict[str, Any] | None:
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{pvc_name_of(key)}"
    try:
        found: dict[str, Any] = kube.admin().get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    return found


def finish(view: InstanceView) -> None:
    end(view)
    work_until(lambda: now(view).state == "gone", "the machine's absence")


def test_data_outlives_machines_and_ends_with_a_receipt(kube_owned, sim) -> None:
    cluster, tenant = on_sale(kube_owned), uuid4()
    assert cluster.storage == StorageDomain.NODE
    assert cluster.storage_class == "local-nvme"
    key = make(cluster, tenant)
    work_until(lambda: state(key) == "creating", "the claim")
    namespace = Volume.objects.select_related("namespace").get(pk=key).namespace.name
    claim = sure(claim_of(kube_owned, namespace, key))
    assert claim["status"]["phase"] == "Pending", "it waits for its first use"
    uid = claim["metadata"]["uid"]

    mount = VolumeMount(key, "/data")
    first = rent_with(cluster, tenant, mount)
    work_until(lambda: state(key) == "attached", "bound by the first machine")
    pod = running(kube_owned.admin(), first.namespace, first.pod_name)
    row = Instance.objects.select_related("share__node", "cluster").get(pk=first.id)
    sent = {"metadata": pod["metadata"], "spec": dict(pod["spec"])}
    sent["metadata"].pop("annotations", None)  # the server's own admission adds one
    sent["spec"].pop("nodeName", None)  # the scheduler's
    assert violations(_as_sent(sent), spec_of(row)) == []
    seen = facade.volumes(ids=[key])[0]
    assert (seen.node, seen.bound_gib) == (first.node, 5)
    finish(first)
    assert state(key) == "available"
    assert sure(claim_of(kube_owned, namespace, key))["status"]["phase"] == "Bound"

    second = rent_with(cluster, tenant, mount)
    assert second.node == first.node
    work_until(lambda: now(second).pod_uid, "the second machine")
    running(kube_owned.admin(), second.namespace, second.pod_name)
    assert sure(claim_of(kube_owned, namespace, key))["metadata"]["uid"] == uid, "the same claim"
    finish(second)

    with transaction.atomic():
        facade.resize_volume(volume_id=key, size_gib=8)
    work_until(lambda: facade.volumes(ids=[key])[0].bound_gib == 8, "the larger size")
    with transaction.atomic():
        facade.delete_volumes(volume_ids=[key])
    work_until(lambda: state(key) == "deleted", "the claim's absence")
    assert claim_of(kube_owned, namespace, key) is None
    proof = sure(facade.volume_receipt(volume_id=key))
    assert proof.content["claim_uid"] == uid
    assert int(proof.content["absence"]["list_resource_version"]) > 0
    assert is_genuine(proof.content, proof.signature, proof.public_key)
    work_until(lambda: not _persistent_volume(kube_owned, uid), "the storage is given back")


def _as_sent(pod: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server leaves out or fills in: a false readOnly."""
    for volume in pod["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"].setdefault("readOnly", False)
    return pod


def _persistent_volume(kube: Any, uid: str) -> bool:
    found = kube.admin().get("/api/v1/persistentvolumes")["items"]
    return any(item["spec"].get("claimRef", {}).get("uid") == uid for item in found)


def test_local_data_stays_on_its_node_even_when_another_is_emptier(kube_owned, sim) -> None:
    cluster, tenant = on_sale(kube_owned), uuid4()
    key = new_id()
    first = rent_with(cluster, tenant, VolumeMount(key, "/data", create_gib=5))
    work_until(lambda: facade.volumes(ids=[key])[0].node, "the node of the data")
    assert facade.volumes(ids=[key])[0].node == first.node
    others = [node.id for node in facade.nodes(cluster_id=cluster.id) if node.name != first.node]
    groups = facade.groups(provider_ref=cluster.provider_ref)
    wanted = tuple(g.id for g in groups if g.accelerator == "nvidia-h100-80gb-sxm")
    node_id = sure(facade.volumes(ids=[key])[0].node_id)
    plan = facade.plan(PlacementRequest(wanted, 1, 0, tenant, node_ids=(node_id,)))
    assert {candidate.node_id for candidate in plan.candidates} == {node_id}
    assert others, "there are other nodes that would do"
    finish(first)


@pytest.mark.parametrize("kind", ["slow_bind", "bind_error"])
def test_a_storage_system_in_trouble_delays_and_loses_nothing(kube_owned, sim, kind) -> None:
    cluster, tenant, key = on_sale(kube_owned), uuid4(), new_id()
    with sim.fault(kind, {"claim": pvc_name_of(key)}):
        view = rent_with(cluster, tenant, VolumeMount(key, "/data", create_gib=5))
        work_until(lambda: now(view).pod_uid, "the machine's object")
        work_until(lambda: facade.volumes(ids=[key])[0].reason == "binding", "the wait is said")
        pod = find(kube_owned.admin(), view.namespace, view.pod_name)
        assert sure(pod)["status"]["phase"] == "Pending"
        assert facade.volumes(ids=[key])[0].bound_at is None
    work_until(lambda: state(key) == "attached", "bound once the trouble is over")
    running(kube_owned.admin(), view.namespace, view.pod_name)
    finish(view)


def test_a_strange_claim_is_reported_and_stays(kube_owned, sim) -> None:
    cluster, tenant = on_sale(kube_owned), uuid4()
    key = make(cluster, tenant)
    work_until(lambda: state(key) == "creating", "the claim")
    namespace = Volume.objects.select_related("namespace").get(pk=key).namespace.name
    label = public("volume", new_id())
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    body = sure(claim_of(kube_owned, namespace, key))
    stranger = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "gv-stranger",
            "labels": {**body["metadata"]["labels"], "gpuyard.io/volume": label},
        },
        "spec": {key: value for key, value in body["spec"].items() if key != "volumeName"},
    }
    admin = kube_owned.admin()
    admin.post(path, stranger)
    ClusterLoop.objects.update(due_at=clock.now())
    orphans.run()
    assert UnknownVolume.objects.get(label=label).name == "gv-stranger"
    assert admin.get(f"{path}/gv-stranger")["metadata"].get("deletionTimestamp") is None
    admin.delete(f"{path}/gv-stranger")
