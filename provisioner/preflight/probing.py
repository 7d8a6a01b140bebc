"""Which probe a cluster gets next, its card and its namespace, and giving both back. Tables only.

Everything that a probe takes is taken in the transaction that writes its row and given back in the
one that writes its absence: whoever dies in between leaves a row that the next worker goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, Max, OuterRef

from kernel.ids import new_id, public
from kernel.wake import wake_on_commit
from provisioner.clusters.register import note_cluster_change
from provisioner.contracts import ClusterState
from provisioner.instances.release import DIRTY_FOR
from provisioner.models import (
    Benchmark,
    Cluster,
    DeviceGroup,
    GroupChange,
    Namespace,
    Node,
    NodeShare,
    Probe,
    Slot,
)
from provisioner.preflight import measured
from provisioner.preflight.facts import NetworkFacts, PullFacts
from provisioner.preflight.store import ask_again, waits_for_benchmark
from provisioner.volumes import namespaces

HELD_FOR = Slot.PROBED  # the reason of a slot that a probe keeps from renters
# A driver or another shape makes another group, which is measured at once; disks age by the week.
BENCHMARK_EVERY = timedelta(days=7)
# A network plugin is changed by people, on a day of theirs.
NETWORK_EVERY = timedelta(days=1)
# What told nothing, or told of a gap: soon enough for an owner who puts it right, rare enough for
# cards that could be let meanwhile.
AGAIN_AFTER = timedelta(hours=1)
# The kubelet's own limit and ours: a minute to measure, one to fetch the image, one for the rest.
POD_SECONDS = 120
PATIENCE = timedelta(seconds=180)
KEPT = timedelta(days=180)


def network_facts(cluster: Cluster) -> NetworkFacts:
    """What the last network probe that ended has to say."""
    rows = Probe.objects.filter(cluster=cluster, kind=Probe.Kind.NETWORK, ended_at__isnull=False)
    last = rows.order_by("-number").first()
    if last is None:
        return NetworkFacts()
    if last.result is None:
        return NetworkFacts(None, last.failure)
    held = measured.enforced(last.result)
    if held is None:
        return NetworkFacts(None, "refused, and nobody knows by whom")
    return NetworkFacts(held, "nothing" if held else f"reached: {measured.reached(last.result)}")


def pull_facts(cluster: Cluster) -> PullFacts:
    """A node fetches an image once, so most probes have nothing to say of it."""
    rows = Probe.objects.filter(cluster=cluster, result__isnull=False).order_by("-number")
    timed = rows.exclude(result__pull_seconds=None).first()
    took = timed.result.get("pull_seconds") if timed is not None and timed.result else None
    return PullFacts(took, rows.exists())


def open_probe(cluster: Cluster) -> Probe | None:
    rows = Probe.objects.exclude(state=Probe.State.GONE).filter(cluster=cluster)
    return rows.select_related("node", "share", "group", "namespace", "cluster").first()


def begin(cluster: Cluster, *, at: datetime) -> Probe | None:
    """The next probe, with what it needs, in the caller's transaction; None when none is due or
    what it needs is in use."""
    if not _may_be_probed(cluster, at) or not _has_spare_namespace(cluster):
        return None
    probe = _network(cluster, at) or _benchmark(cluster, at)
    if probe is None:
        _all_tried(cluster, at)
        return None
    bound = namespaces.bind(cluster=cluster.pk, tenant=probe.pk)
    if bound is None:
        return None
    probe.namespace_id = bound[0]
    if probe.share is not None and not _take_card(probe):
        Namespace.objects.filter(pk=bound[0]).update(tenant_ref=None, bound_at=None)
        return None
    probe.save(force_insert=True)
    return probe


def _may_be_probed(cluster: Cluster, at: datetime) -> bool:
    if cluster.state != ClusterState.READY or cluster.drain_requested_at is not None:
        return False
    return cluster.preflight_passed or waits_for_benchmark(cluster, at)


def _has_spare_namespace(cluster: Cluster) -> bool:
    """The last one is a renter's, unless nobody rents there yet."""
    pool = Namespace.objects.filter(cluster=cluster, usable=True)
    free = pool.filter(tenant_ref=None).count()
    return free > 1 or (free == 1 and not pool.exclude(tenant_ref=None).exists())


def _network(cluster: Cluster, at: datetime) -> Probe | None:
    last = (
        Probe.objects.filter(cluster=cluster, kind=Probe.Kind.NETWORK).order_by("-number").first()
    )
    if last is not None:
        held = last.result is not None and measured.enforced(last.result)
        pause = NETWORK_EVERY if held else AGAIN_AFTER
        if last.created_at > at - pause:
            return None
    node = Node.objects.filter(cluster=cluster, sellable=True).order_by("name").first()
    return None if node is None else _probe(cluster, Probe.Kind.NETWORK, node, at)


def _benchmark(cluster: Cluster, at: datetime) -> Probe | None:
    fresh = Benchmark.objects.filter(
        share=OuterRef("pk"), group=OuterRef("group"), measured_at__gt=at - BENCHMARK_EVERY
    )
    tried = Probe.objects.filter(
        share=OuterRef("pk"), group=OuterRef("group"), created_at__gt=at - AGAIN_AFTER
    )
    shares = NodeShare.objects.filter(
        node__cluster=cluster, sellable=True, slots_free__gt=0, quarantined_at=None
    )
    due = shares.exclude(Exists(fresh)).exclude(Exists(tried)).order_by("node__name", "pk")
    share = due.select_related("node", "group").select_for_update(
        of=("self",), skip_locked=True
    ).first()  # fmt: skip
    if share is None:
        return None
    probe = _probe(cluster, Probe.Kind.BENCHMARK, share.node, at)
    probe.share, probe.group = share, share.group
    return probe


def _probe(cluster: Cluster, kind: Probe.Kind, node: Node, at: datetime) -> Probe:
    last = Probe.objects.filter(cluster=cluster).aggregate(last=Max("number"))["last"] or 0
    number = last + 1
    name = f"gy-probe-{public('cluster', cluster.pk).removeprefix('clu_')}-{number}"
    return Probe(
        id=new_id(),
        cluster=cluster,
        number=number,
        kind=kind,
        node=node,
        pod_name=name,
        created_at=at,
        deadline_at=at + PATIENCE,
    )


def _take_card(probe: Probe) -> bool:
    """A free slot of the share, whose row is locked: renters take free ones only."""
    if probe.share is None:
        return False
    slots = Slot.objects.filter(share=probe.share, state=Slot.State.FREE).order_by("-number")
    slot = slots.select_for_update().first()
    if slot is None:
        return False
    Slot.objects.filter(pk=slot.pk).update(state=Slot.State.CORDONED, reason=HELD_FOR)
    NodeShare.objects.filter(pk=probe.share.pk).update(slots_free=F("slots_free") - 1)
    GroupChange.objects.create(group_id=probe.share.group_id)
    wake_on_commit("provisioner.summaries")
    probe.slot = slot
    return True


def told(probe: Probe, result: Mapping[str, Any] | None, failure: str, *, at: datetime) -> None:
    """The probe has told what it will. In a transaction."""
    changes = {"state": Probe.State.ENDING, "result": result, "failure": failure, "ended_at": at}
    Probe.objects.filter(pk=probe.pk).update(**changes)
    if result is not None and probe.kind == Probe.Kind.BENCHMARK:
        _claim(probe, result, at)
    elif probe.kind == Probe.Kind.NETWORK:
        if result is not None:
            _note_policy(probe, result)
        ask_again(probe.cluster_id)  # a rule is judged by it


def _note_policy(probe: Probe, result: Mapping[str, Any]) -> None:
    known = {True: "enforced", False: "open", None: ""}[measured.enforced(result)]
    changed = Cluster.objects.filter(pk=probe.cluster_id).exclude(network_policy=known)
    if changed.update(network_policy=known):
        note_cluster_change(probe.cluster_id)


def _claim(probe: Probe, result: Mapping[str, Any], at: datetime) -> None:
    figures = {"measured_at": at, "score": measured.score(result), "result": dict(result)}
    Benchmark.objects.update_or_create(share=probe.share, group=probe.group, defaults=figures)
    if probe.group is None:
        return
    present = Benchmark.objects.filter(group=probe.group, share__group=F("group"))
    claim = measured.worst([row.result for row in present])
    DeviceGroup.objects.filter(pk=probe.group.pk).update(
        score=claim.score,
        disk_kind=claim.disk_kind,
        disk_read_mib_s=claim.disk_read_mib_s,
        disk_write_mib_s=claim.disk_write_mib_s,
        net_down_mbps=claim.net_down_mbps,
    )


def gone(probe: Probe, *, at: datetime) -> None:
    """Its absence was observed: card and namespace are given back. In a transaction."""
    if probe.share is not None and probe.slot_id is not None:
        # Counters change under the share's lock, like everywhere; the rest is recycling's.
        NodeShare.objects.select_for_update().get(pk=probe.share.pk)
        held = Slot.objects.filter(pk=probe.slot_id, state=Slot.State.CORDONED, reason=HELD_FOR)
        held.update(state=Slot.State.DIRTY, reason="", free_at=at + DIRTY_FOR, last_to=at)
    bound = Namespace.objects.filter(pk=probe.namespace_id, tenant_ref=probe.pk)
    bound.update(tenant_ref=None, bound_at=None)
    Probe.objects.filter(pk=probe.pk).update(state=Probe.State.GONE, gone_at=at)
    Probe.objects.filter(cluster=probe.cluster_id, gone_at__lt=at - KEPT).delete()


def _all_tried(cluster: Cluster, at: datetime) -> None:
    """Nothing is left to be measured: a new cluster waits no longer."""
    if cluster.benchmarked_at is not None or not _has_nodes(cluster):
        return
    Cluster.objects.filter(pk=cluster.pk).update(benchmarked_at=at)
    cluster.benchmarked_at = at
    note_cluster_change(cluster.pk)
    if not cluster.preflight_passed:
        ask_again(cluster.pk)


def _has_nodes(cluster: Cluster) -> bool:
    return Node.objects.filter(cluster=cluster, sellable=True).exists()
