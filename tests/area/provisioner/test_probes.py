"""Probes from their card to their result; whoever dies in between leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from kernel import clock
from kernel.ids import new_id
from provisioner.contracts import NoCandidate
from provisioner.instances import release
from provisioner.inventory import summary
from provisioner.kube.errors import Rejected, Unsure
from provisioner.models import (
    Benchmark,
    Cluster,
    ClusterLoop,
    DeviceGroup,
    Namespace,
    Probe,
    Slot,
    UnknownPod,
)
from provisioner.preflight import probing
from provisioner.preflight.facts import PullFacts
from provisioner.reconcile import orphans, probe_loop
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import Yard, conserved, make_yard, rent

pytestmark = pytest.mark.django_db

Json = dict[str, Any]

FIGURES: Json = {
    "version": 1,
    "seconds": 9.0,
    "cpu_single_sha256_mib_s": 500.0,
    "cpu_all_sha256_mib_s": 2000.0,
    "memory_copy_mib_s": 10000.0,
    "disk_kind": "nvme",
    "disk_write_mib_s": 500.0,
    "disk_read_mib_s": 500.0,
    "net_down_mbps": None,
    "cards": [{"uid": "GPU-1", "model": "X", "memory_mib": 81559, "driver": "550.1"}],
}
OPEN_API: Json = {
    "version": 1,
    "tries": [{"what": "api", "address": "10.96.0.1:443", "verdict": "open"}],
}


def visit(cluster: MemoryCluster) -> None:
    ClusterLoop.objects.filter(kind="probes").update(due_at=clock.now())
    probe_loop.run(cluster.connect)


def end_pods(cluster: MemoryCluster, **said: Json) -> None:
    """Every probe's pod ends, with what its command tells."""
    for key, pod in cluster.pods.items():
        command = pod["spec"]["containers"][0]["command"][1]
        ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(said[command])}
        pod["status"] = {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "gpuyard-probe", "state": {"terminated": ended}}],
        }
        cluster._put(key, pod)


def until(condition: Callable[[], bool], cluster: MemoryCluster) -> None:
    """Visits, with a kubelet that ends and removes pods at once."""
    for _ in range(30):
        if condition():
            return
        visit(cluster)
        end_pods(cluster, bench=FIGURES, probe=OPEN_API)
        cluster.finish_deletions()
    raise AssertionError(list(Probe.objects.values("number", "kind", "state", "failure")))


def all_done() -> bool:
    return Cluster.objects.get().benchmarked_at is not None


def untouched(yard: Yard) -> None:
    """Nothing is held by any probe, and nothing of it is in the cluster."""
    assert not Namespace.objects.exclude(tenant_ref=None).exists()
    Slot.objects.exclude(free_at=None).update(free_at=clock.now())
    release.recycle()
    assert set(Slot.objects.values_list("state", flat=True)) == {"free"}
    conserved(yard)


def test_each_node_is_measured_once_and_everything_is_given_back(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=2)
    until(all_done, cluster)
    assert list(Probe.objects.order_by("number").values_list("kind", "state")) == [
        ("network", "gone"),
        ("benchmark", "gone"),
        ("benchmark", "gone"),
    ]
    assert cluster.pods == {}
    untouched(yard)
    assert Benchmark.objects.count() == 2
    group = DeviceGroup.objects.get()
    assert (group.score, group.disk_kind, group.disk_read_mib_s) == (100.0, "nvme", 500.0)
    until(all_done, cluster)
    assert Probe.objects.count() == 3  # nothing is due again


def test_a_group_claims_what_its_worst_node_does(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=2)
    until(all_done, cluster)
    Probe.objects.update(created_at=clock.now() - timedelta(days=8))
    Benchmark.objects.update(measured_at=clock.now() - timedelta(days=8))
    slow = {**FIGURES, "disk_kind": "hdd", "disk_read_mib_s": 5.0, "net_down_mbps": 100.0}
    for _ in range(6):
        visit(cluster)
        end_pods(cluster, bench=slow, probe=OPEN_API)
        cluster.finish_deletions()
    group = DeviceGroup.objects.get()
    assert group.disk_kind == "hdd"
    assert group.disk_read_mib_s == 5.0
    assert group.net_down_mbps is None  # one node of them has no such figure
    assert yard.group.pk == group.pk


def test_the_card_of_a_benchmark_is_nobody_elses(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=1, cards=1)
    until(lambda: Probe.objects.filter(kind="benchmark", state="running").exists(), cluster)
    summary.refresh()
    assert DeviceGroup.objects.get().slots_free == 0
    conserved(yard)
    with pytest.raises(NoCandidate):
        rent(yard)
    probe = Probe.objects.get(kind="benchmark")
    with pytest.raises(IntegrityError), transaction.atomic():
        Probe.objects.create(
            cluster=make_yard().cluster,
            number=1,
            kind="benchmark",
            node=probe.node,
            slot=probe.slot,
            namespace=probe.namespace,
            pod_name="another",
            created_at=clock.now(),
            deadline_at=clock.now(),
        )


def test_cards_that_are_let_are_not_measured(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=1, cards=1)
    rent(yard)
    visit(cluster)
    assert not Probe.objects.filter(kind="benchmark").exists()


def test_the_last_namespace_is_a_renters(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=1, cards=2, namespaces=2)
    rent(yard)
    visit(cluster)
    assert not Probe.objects.exists()


@pytest.mark.parametrize("call", ["create_pod", "get_pod", "delete_pod"])
@pytest.mark.parametrize("after", [False, True])
def test_whoever_dies_at_any_call_leaves_nothing_behind(
    cluster: MemoryCluster, call: str, after: bool
) -> None:
    """The call has its effect or not, nobody hears of it, and nothing is written."""
    yard = make_yard(nodes=1, cards=1)
    cluster.fail(call, lambda: Unsure("timeout", "killed"), after=after)
    for _ in range(40):
        if all_done():
            break
        visit(cluster)
        end_pods(cluster, bench=FIGURES, probe=OPEN_API)
        cluster.finish_deletions()
        ClusterLoop.objects.update(claim_token=None, claim_until=None)
        # Time enough passes for a create that nobody heard of to have landed.
        Probe.objects.filter(state="ending").update(sent_at=None)
    assert cluster.pods == {}
    assert set(Probe.objects.values_list("state", flat=True)) == {"gone"}
    untouched(yard)


def test_no_absence_counts_while_a_create_may_land(cluster: MemoryCluster) -> None:
    make_yard(nodes=1)
    cluster.fail("create_pod", lambda: Unsure("timeout", "nobody knows"), after=False)
    visit(cluster)
    Probe.objects.update(deadline_at=clock.now() - timedelta(seconds=1), state="ending")
    visit(cluster)
    assert Probe.objects.get().state == "ending"
    Probe.objects.update(sent_at=clock.now() - timedelta(minutes=1))
    visit(cluster)
    assert Probe.objects.get(number=1).state == "gone"


def test_a_pod_that_is_refused_keeps_nothing(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=1)
    for _ in range(4):
        cluster.fail("create_pod", lambda: Rejected("quota", "exceeded quota"), after=False)
        visit(cluster)
        Probe.objects.update(sent_at=None)
    found = Probe.objects.order_by("number").first()
    assert found is not None
    assert found.state == "gone"
    assert "quota" in found.failure
    assert cluster.pods == {}
    assert yard.cluster.pk == found.cluster_id


def test_a_probe_that_never_ends_is_given_up(cluster: MemoryCluster) -> None:
    make_yard(nodes=1)
    visit(cluster)
    Probe.objects.update(deadline_at=clock.now() - timedelta(seconds=1))
    visit(cluster)
    visit(cluster)
    cluster.finish_deletions()
    visit(cluster)
    found = Probe.objects.get(number=1)
    assert found.state == "gone"
    assert found.result is None
    assert "three minutes" in found.failure


def test_the_sweep_knows_probes_and_removes_what_no_row_wants(cluster: MemoryCluster) -> None:
    make_yard(nodes=1)
    visit(cluster)
    assert len(cluster.pods) == 1
    ClusterLoop.objects.filter(kind="orphans").update(due_at=clock.now())
    orphans.run(cluster.connect)
    cluster.finish_deletions()
    assert len(cluster.pods) == 1
    assert not UnknownPod.objects.exists()
    Probe.objects.all().delete()
    ClusterLoop.objects.filter(kind="orphans").update(due_at=clock.now())
    orphans.run(cluster.connect)
    cluster.finish_deletions()
    assert cluster.pods == {}
    assert not UnknownPod.objects.exists()


def test_another_driver_is_measured_at_once(cluster: MemoryCluster) -> None:
    yard = make_yard(nodes=1)
    until(all_done, cluster)
    group = yard.group
    group.pk, group.driver = new_id(), "560.1"
    group.save(force_insert=True)
    yard.shares[0].group = group
    yard.shares[0].save(update_fields=["group"])
    until(lambda: Benchmark.objects.filter(group=group).exists(), cluster)
    assert DeviceGroup.objects.get(pk=group.pk).score == 100.0


def test_what_a_node_needed_for_the_image_is_kept_until_another_fetches_it(
    cluster: MemoryCluster,
) -> None:
    yard = make_yard(nodes=2)
    assert probing.pull_facts(yard.cluster) == PullFacts(None, False)
    visit(cluster)
    ((_, pod),) = cluster.pods.items()
    message = 'Successfully pulled image "x" in 41.5s'
    about = {"uid": pod["metadata"]["uid"]}
    cluster.events = [{"involvedObject": about, "reason": "Pulled", "message": message}]
    until(all_done, cluster)
    assert Probe.objects.count() == 3  # the others found the image there
    assert probing.pull_facts(yard.cluster) == PullFacts(41.5, True)
    assert probing.network_facts(yard.cluster).enforced is False


def test_a_drained_cluster_is_not_probed(cluster: MemoryCluster) -> None:
    make_yard(nodes=1, drain_requested_at=clock.now())
    visit(cluster)
    assert not Probe.objects.exists()
    assert probing.open_probe(Cluster.objects.get()) is None
