"""Volumes from the wish to the receipt against a cluster in memory: every step, every failure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.contracts import (
    NoCandidate,
    NoStorage,
    PlacementRequest,
    PodOrder,
    StorageDomain,
    VolumeMount,
    VolumeView,
)
from provisioner.inventory import summary
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.models import (
    Cluster,
    ClusterLoop,
    Instance,
    Namespace,
    UnknownVolume,
    Volume,
    VolumeAttachment,
    VolumeEvent,
    VolumeReceipt,
)
from provisioner.reconcile import instance_loop, node_loop, observe, orphans, volume_loop
from provisioner.reconcile.volume_claim import claim_volumes
from provisioner.reconcile.volume_steps import next_step
from provisioner.volumes.receipt import is_genuine
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import IMAGE, Yard, end, make_yard, plan, rent, row_of, sure

pytestmark = pytest.mark.django_db

LOCAL: dict[str, Any] = {
    "storage_class": "local-nvme",
    "storage_domain": "node",
    "storage_reclaim": "Delete",
    "storage_waits": True,
    "storage_expands": True,
}
SHARED: dict[str, Any] = {
    **LOCAL,
    "storage_class": "ceph",
    "storage_domain": "cluster",
    "storage_waits": False,
}


def loop(cluster: MemoryCluster) -> None:
    """One run of both loops in which everything is due and no breaker is open."""
    for model in (Volume, Instance):
        model.objects.exclude(due_at=None).update(due_at=clock.now())
    Cluster.objects.update(retry_at=None)
    volume_loop.run(cluster.connect, seconds=1.0)
    instance_loop.run(cluster.connect, seconds=1.0)


def full_list(cluster: MemoryCluster) -> None:
    ClusterLoop.objects.update(due_at=clock.now())
    observe.run(cluster.connect)


def make(yard: Yard, tenant: UUID, size_gib: int = 10) -> UUID:
    key = new_id()
    with transaction.atomic():
        facade.create_volume(
            volume_id=key, tenant_ref=tenant, cluster_id=yard.cluster.pk, size_gib=size_gib
        )
    return key


def view(key: UUID) -> VolumeView:
    return facade.volumes(ids=[key])[0]


def story(key: UUID) -> list[str]:
    rows = VolumeEvent.objects.filter(volume_id=key).order_by("seq")
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [row.reason for row in rows]


def with_volume(key: UUID, **more: Any) -> PodOrder:
    return PodOrder(image=IMAGE, volumes=(VolumeMount(key, "/data", **more),))


def delete(*keys: UUID) -> None:
    with transaction.atomic():
        facade.delete_volumes(volume_ids=keys)


def gone(cluster: MemoryCluster, instance: Any) -> None:
    end(instance)
    for _ in range(2):
        loop(cluster)
        cluster.finish_deletions()
    loop(cluster)
    assert row_of(instance).state == "gone"


def test_from_the_wish_over_two_machines_to_the_receipt(cluster) -> None:
    yard, tenant = make_yard(nodes=2, **LOCAL), uuid4()
    key = make(yard, tenant)
    assert view(key).state == "requested"
    loop(cluster)
    ((namespace, name),) = cluster.claims
    claim = cluster.claims[namespace, name]
    assert name == "gv-" + public("volume", key).removeprefix("vol_")
    assert claim["spec"]["storageClassName"] == "local-nvme"
    assert claim["spec"]["resources"]["requests"] == {"storage": "10Gi"}
    assert claim["metadata"]["labels"]["gpuyard.io/volume"] == public("volume", key)
    assert (view(key).state, view(key).reason) == ("creating", "waits_for_use")
    assert view(key).bound_at is None, "nothing is there that could be charged"

    first = rent(yard, tenant=tenant, order=with_volume(key))
    assert first.namespace == namespace
    loop(cluster)
    assert view(key).reason == "binding"
    pod = cluster.pods[first.namespace, first.pod_name]
    assert {"name": name, "mountPath": "/data", "readOnly": False} in pod["spec"]["containers"][0][
        "volumeMounts"
    ]
    cluster.bind_claims()
    loop(cluster)
    seen = view(key)
    assert (seen.state, seen.bound_gib, seen.node) == ("attached", 10, first.node)
    assert (seen.instance_id, seen.rental_ref) == (first.id, first.rental_ref)
    assert seen.bound_at is not None
    gone(cluster, first)
    assert (view(key).state, view(key).instance_id) == ("available", None)

    second = rent(yard, tenant=tenant, order=with_volume(key))
    assert second.node == first.node, "node-local data is nowhere else"
    loop(cluster)
    again = cluster.pods[second.namespace, second.pod_name]["spec"]["volumes"]
    claims = [each["persistentVolumeClaim"] for each in again if "persistentVolumeClaim" in each]
    assert [each["claimName"] for each in claims] == [name]
    gone(cluster, second)

    delete(key)
    requested = view(key).delete_requested_at
    loop(cluster)
    assert view(key).state == "deleting", "the claim is still listed"
    assert facade.volume_receipt(volume_id=key) is None
    cluster.finish_claim_deletions()
    loop(cluster)
    seen = view(key)
    assert (seen.state, seen.delete_requested_at) == ("deleted", requested)
    assert story(key) == [
        "requested", "creating", "waits_for_use", "binding", "attached", "detached", "attached",
        "detached", "delete_requested", "deleted",
    ]  # fmt: skip
    proof = sure(facade.volume_receipt(volume_id=key))
    assert proof.content["claim"] == name
    assert proof.content["reclaim_policy"] == "Delete"
    assert proof.content["absence"]["claims_listed"] == 0
    assert is_genuine(proof.content, proof.signature, proof.public_key)
    assert not is_genuine({**proof.content, "claim": "other"}, proof.signature, proof.public_key)


def test_one_order_makes_its_volume_where_it_is_placed(cluster) -> None:
    make_yard()  # a cluster without storage, which the planner must not choose
    yard, tenant, key = make_yard(**SHARED), uuid4(), new_id()
    view_ = rent(yard, tenant=tenant, order=with_volume(key, create_gib=20))
    assert view(key).cluster_id == yard.cluster.pk
    loop(cluster)
    cluster.bind_claims()
    loop(cluster)
    assert (view(key).state, view(key).bound_gib) == ("attached", 20)
    assert view(key).node is None, "any node of the cluster will do"
    assert row_of(view_).state == "creating"


def test_only_one_machine_may_have_it(cluster) -> None:
    yard, tenant = make_yard(cards=4, **SHARED), uuid4()
    key = make(yard, tenant)
    first = rent(yard, tenant=tenant, order=with_volume(key))
    with pytest.raises(Refusal) as refused:
        rent(yard, tenant=tenant, order=with_volume(key))
    assert refused.value.slug == "volume_in_use"
    assert refused.value.extra["rental"] == public("rental", first.rental_ref)
    assert Instance.objects.count() == 1, "nothing of the refused order is kept"
    with pytest.raises(IntegrityError), transaction.atomic():
        VolumeAttachment.objects.create(volume_id=key, instance_id=first.id, from_at=clock.now())
    with pytest.raises(Refusal) as kept:
        delete(key)
    assert kept.value.slug == "volume_in_use"


def test_another_tenant_does_not_even_see_it(cluster) -> None:
    yard = make_yard(**SHARED)
    key = make(yard, uuid4())
    with pytest.raises(NotFound):
        rent(yard, tenant=uuid4(), order=with_volume(key))
    assert not Instance.objects.exists()


def test_the_plan_explains_why_no_node_will_do(cluster) -> None:
    with_storage, without = make_yard(nodes=2, **LOCAL), make_yard()
    groups = (with_storage.group.pk, without.group.pk)

    def asked(**more: Any) -> Any:
        return facade.plan(PlacementRequest(groups, 1, 0, uuid4(), **more))

    assert len(asked().candidates) == 3
    assert {c.cluster_id for c in asked(needs_storage=True).candidates} == {with_storage.cluster.pk}
    assert len(asked(cluster_ids=(without.cluster.pk,)).candidates) == 1
    node = with_storage.shares[1].node_id
    (only,) = asked(cluster_ids=(with_storage.cluster.pk,), node_ids=(node,)).candidates
    assert only.node_id == node
    assert asked(cluster_ids=(uuid4(),)).rejections == {"other_cluster": 3}
    assert asked(node_ids=(uuid4(),)).rejections == {"other_node": 3}
    nothing = asked(cluster_ids=(without.cluster.pk,), needs_storage=True).rejections
    assert nothing == {"no_storage": 1, "other_cluster": 2}


def test_a_stale_plan_never_places_a_machine_away_from_its_data(cluster) -> None:
    yard, tenant = make_yard(nodes=2, cards=1, **LOCAL), uuid4()
    key = make(yard, tenant)
    Volume.objects.filter(pk=key).update(node=yard.shares[1].node)
    stale = plan(yard, tenant=tenant)
    assert rent(yard, tenant=tenant, order=with_volume(key), given=stale).node == "node-1"
    other = make_yard(**LOCAL)
    second = make(yard, tenant)
    with pytest.raises(NoCandidate):
        rent(other, tenant=tenant, order=with_volume(second))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [Unavailable, Unsure])
@pytest.mark.parametrize("call", ["create_claim", "get_claim"])
def test_a_failed_create_is_repeated_and_makes_one_claim(cluster, call, kind, after) -> None:
    code = "connect" if kind is Unavailable else "timeout"
    cluster.fail(call, lambda: kind(code, "on order"), after=after, times=2)
    key = make(make_yard(**SHARED), uuid4())
    for _ in range(5):
        loop(cluster)
    assert len(cluster.claims) == 1
    cluster.bind_claims()
    loop(cluster)
    assert view(key).state == "available"
    assert cluster.calls.count("create_claim") <= 3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["delete_claim", "list_claims"])
def test_a_failed_delete_is_repeated_and_ends_with_one_receipt(cluster, call, after) -> None:
    key = make(make_yard(**SHARED), uuid4())
    loop(cluster)
    delete(key)
    delete(key)  # repeating it changes nothing
    cluster.fail(call, lambda: Unsure("timeout", "on order"), after=after, times=2)
    for _ in range(4):
        loop(cluster)
        cluster.finish_claim_deletions()
    assert view(key).state == "deleted"
    assert VolumeReceipt.objects.count() == 1
    assert story(key).count("delete_requested") == 1


def test_a_create_in_flight_outlives_no_deletion(cluster) -> None:
    """The create was sent and not answered: absence counts only once it can take effect no more."""
    key = make(make_yard(**SHARED), uuid4())
    cluster.fail("create_claim", lambda: Unsure("timeout", "on order"))
    loop(cluster)
    delete(key)
    loop(cluster)
    assert view(key).state == "deleting"
    Volume.objects.filter(pk=key).update(create_until=clock.now() - timedelta(seconds=1))
    loop(cluster)
    assert view(key).state == "deleted"


@pytest.mark.parametrize("code", ["quota", "not_admitted", "invalid"])
def test_a_refused_claim_says_so_and_is_tried_again(cluster, code) -> None:
    cluster.fail("create_claim", lambda: Rejected(code, "403 no"), times=2)
    key = make(make_yard(**SHARED), uuid4())
    loop(cluster)
    loop(cluster)
    assert (view(key).state, view(key).reason) == ("creating", "refused")
    assert story(key).count("refused") == 1
    loop(cluster)
    assert view(key).reason == "binding"


def test_a_foreign_object_under_its_name_is_left_alone(cluster) -> None:
    key = make(make_yard(**SHARED), uuid4())
    row = Volume.objects.select_related("namespace").get(pk=key)
    place = (row.namespace.name, row.pvc_name)
    cluster.claims[place] = {"metadata": {"name": row.pvc_name, "uid": "theirs"}, "status": {}}
    loop(cluster)
    assert view(key).reason == "refused"
    delete(key)
    Volume.objects.update(create_until=clock.now() - timedelta(seconds=1))
    assert "deletionTimestamp" not in cluster.claims[place]["metadata"]


def test_it_grows_when_asked_and_only_grows(cluster) -> None:
    yard = make_yard(**SHARED)
    key = make(yard, uuid4())
    with pytest.raises(Refusal) as early, transaction.atomic():
        facade.resize_volume(volume_id=key, size_gib=20)
    assert early.value.slug == "invalid_transition"
    loop(cluster)
    cluster.bind_claims()
    loop(cluster)
    for size in (9, 0, 10**9):
        with pytest.raises(InvalidRequest), transaction.atomic():
            facade.resize_volume(volume_id=key, size_gib=size)
    with transaction.atomic():
        facade.resize_volume(volume_id=key, size_gib=20)
    loop(cluster)
    assert (view(key).state, view(key).size_gib, view(key).bound_gib) == ("resizing", 20, 10)
    cluster.bind_claims()
    loop(cluster)
    assert (view(key).state, view(key).bound_gib) == ("available", 20)
    sizes = VolumeEvent.objects.filter(volume_id=key).order_by("seq")
    assert [row.bound_gib for row in sizes][-3:] == [10, 10, 20], "the meter's evidence"


def test_a_refused_growth_keeps_size_and_data(cluster) -> None:
    key = make(make_yard(**SHARED), uuid4())
    loop(cluster)
    cluster.bind_claims()
    loop(cluster)
    with transaction.atomic():
        facade.resize_volume(volume_id=key, size_gib=20)
    cluster.fail("patch_claim", lambda: Rejected("not_admitted", "403 no expansion"))
    loop(cluster)
    seen = view(key)
    assert (seen.state, seen.reason, seen.size_gib) == ("available", "resize_refused", 10)
    rigid = make_yard(**{**SHARED, "storage_expands": False})
    other = make(rigid, uuid4())
    with pytest.raises(InvalidRequest), transaction.atomic():
        facade.resize_volume(volume_id=other, size_gib=20)


@pytest.mark.parametrize("how", ["phase", "absent", "another"])
def test_lost_data_is_said_and_closes_the_meter(cluster, how) -> None:
    yard, tenant = make_yard(**SHARED), uuid4()
    key = make(yard, tenant)
    loop(cluster)
    cluster.bind_claims()
    loop(cluster)
    (place,) = cluster.claims
    if how == "phase":
        cluster.claims[place]["status"] = {"phase": "Lost"}
    elif how == "another":
        cluster.claims[place]["metadata"]["uid"] = "another"
    else:
        del cluster.claims[place]
    loop(cluster)
    assert view(key).state == "lost"
    assert view(key).lost_at is not None
    with pytest.raises(Refusal) as refused:
        rent(yard, tenant=tenant, order=with_volume(key))
    assert refused.value.slug == "invalid_transition"
    delete(key)
    for _ in range(2):
        loop(cluster)
        cluster.finish_claim_deletions()
    assert view(key).state == "deleted"


def test_a_worker_that_was_too_slow_writes_nothing(cluster) -> None:
    key = make(make_yard(**SHARED), uuid4())
    (mine,) = claim_volumes(limit=1, busy=[])
    token = sure(mine.claim_token)
    Volume.objects.update(claim_token=uuid4())
    at = clock.now()
    assert not volume_loop._announce_create(mine, token, at)
    assert view(key).state == "requested"
    delete(key)
    assert view(key).state == "deleting"


def test_a_wish_during_a_call_wins(cluster) -> None:
    """The claim comes back bound while its deletion was asked: nothing is made of the old wish."""
    key = make(make_yard(**SHARED), uuid4())
    loop(cluster)
    Volume.objects.update(due_at=clock.now())
    (row,) = claim_volumes(limit=1, busy=[])
    step = next_step(row, sure(row.claim_token))
    cluster.bind_claims()
    answer = step.call(cluster)
    delete(key)
    volume_loop._finish(step, answer)
    assert view(key).state == "deleting"
    assert Volume.objects.get(pk=key).claim_token is None
    assert sure(Volume.objects.get(pk=key).due_at) <= clock.now()


def test_no_storage_is_a_clear_no(cluster) -> None:
    for columns, code in (
        ({}, "no_storage"),
        ({**SHARED, "state": "unreachable"}, "cluster_not_ready"),
        ({**SHARED, "drain_requested_at": clock.now()}, "cluster_not_ready"),
    ):
        with pytest.raises(NoStorage) as refused:
            make(make_yard(**columns), uuid4())
        assert refused.value.code == code
    crowded = make_yard(namespaces=1, **SHARED)
    make(crowded, uuid4())
    with pytest.raises(NoStorage) as full:
        make(crowded, uuid4())
    assert full.value.code == "namespaces_exhausted"
    assert Volume.objects.count() == 1


def test_a_namespace_stays_its_tenants_while_it_holds_a_volume(cluster) -> None:
    yard, tenant = make_yard(**SHARED), uuid4()
    key = make(yard, tenant)
    loop(cluster)

    def sweep_later() -> None:
        Namespace.objects.update(bound_at=clock.now() - timedelta(hours=1))
        Volume.objects.exclude(deleted_at=None).update(deleted_at=clock.now() - timedelta(hours=1))
        ClusterLoop.objects.update(due_at=clock.now())
        orphans.run(cluster.connect)

    cluster.claims.clear()  # even if its claim is not there
    sweep_later()
    assert Namespace.objects.filter(tenant_ref=tenant).exists()
    delete(key)
    loop(cluster)
    sweep_later()
    assert not Namespace.objects.filter(tenant_ref=tenant).exists()


def test_a_strange_claim_is_reported_and_left_alone(cluster) -> None:
    yard = make_yard(**SHARED)
    make(yard, uuid4())
    loop(cluster)
    ((namespace, _),) = cluster.claims
    labels = {"gpuyard.io/volume": public("volume", new_id())}
    cluster.claims[namespace, "gv-other"] = {
        "metadata": {"name": "gv-other", "namespace": namespace, "uid": "u", "labels": labels},
        "status": {"phase": "Bound"},
    }
    for _ in range(2):
        ClusterLoop.objects.update(due_at=clock.now())
        orphans.run(cluster.connect)
    assert UnknownVolume.objects.get().uid == "u"
    assert "deletionTimestamp" not in cluster.claims[namespace, "gv-other"]["metadata"]
    assert "delete_claim" not in cluster.calls


def test_a_role_without_claims_is_swept_all_the_same(cluster) -> None:
    yard = make_yard()
    cluster.fail(
        "list_claims", lambda: Rejected("forbidden", "403 cannot list persistentvolumeclaims")
    )
    ClusterLoop.objects.update(due_at=clock.now())
    orphans.run(cluster.connect)
    yard.cluster.refresh_from_db()
    assert (yard.cluster.state, yard.cluster.failures) == ("ready", 0)


def test_inventory_finds_the_domain_and_an_older_bundle_means_none(cluster) -> None:
    yard = make_yard()
    ClusterLoop.objects.update(due_at=clock.now())
    cluster.classes = [
        {
            "metadata": {"name": "fast", "labels": {"gpuyard.io/storage": "true"}},
            "provisioner": "rbd.csi.ceph.com",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
            "allowVolumeExpansion": True,
        }
    ]
    node_loop.run(cluster.connect)
    (seen,) = facade.clusters(ids=[yard.cluster.pk])
    assert (seen.storage, seen.storage_class) == (StorageDomain.CLUSTER, "fast")
    assert "rbd.csi.ceph.com" in seen.storage_reason
    summary.refresh()
    assert facade.groups(ids=[yard.group.pk])[0].storage == StorageDomain.CLUSTER
    cluster.fail(
        "list_storage_classes", lambda: Rejected("forbidden", "403 cannot list storageclasses")
    )
    ClusterLoop.objects.update(due_at=clock.now())
    node_loop.run(cluster.connect)
    (seen,) = facade.clusters(ids=[yard.cluster.pk])
    assert (seen.storage, seen.state) == (StorageDomain.NONE, "ready")
    assert "bundle" in seen.storage_reason
