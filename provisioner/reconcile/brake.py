"""The mass brake: many ends at once are more likely our mistake than the world's.

Counted are the ends that we decide ourselves from what we see (no wishes, no dates) and the pods
that sweeps delete, per cluster over ten minutes, with what is wanted now. Above the limit the brake
is pulled (a row, an alarm) and nothing of it is carried out: instances move aside without charge,
pods are listed only, until a person lets go, or a later look shows the cause gone.

A renter's own fault is never counted. Instances that never ran count once per tenant, because one
bad order fails as often as it is repeated and must not hold a whole cluster.

A list and a sweep are judged as a whole before anything of them is done; ends that come one by one
are judged each, under the cluster's row lock, so that two workers cannot both take the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q

from kernel import clock
from provisioner.contracts import Fault, InstanceState
from provisioner.instances import brakes
from provisioner.instances.reasons import DECIDED, REASONS
from provisioner.instances.state import COMING_UP, TERMINAL, TROUBLED
from provisioner.kube.pods import PodFacts
from provisioner.models import Brake, Cluster, DeletedOrphan, Instance

# Ten ends happen in a bad night; a twentieth of a cluster at once does not.
FEW, SHARE = 10, 0.05
WINDOW = timedelta(minutes=10)
# What one cause makes bad, lists and looks find within the time that keeps a meter fresh.
SOON = timedelta(seconds=60)
# An end that took longer than this is no reason to expect pods of it; it also bounds the search.
LATEST = timedelta(days=1)
# Between two looks at an instance whose end is held. Lists and watches look all the time; this
# serves the ones they cannot show, and every look costs the cluster a call.
LOOK_AGAIN = timedelta(seconds=30)

_BY_ITSELF = {Brake.Cause.LIST, Brake.Cause.TROUBLE}


def limit_of(cluster_id: UUID) -> int:
    """How much may end in ten minutes: the greater of ten and a twentieth of what it runs."""
    alive = Instance.objects.filter(cluster=cluster_id).exclude(state__in=TERMINAL).count()
    return max(FEW, int(alive * SHARE))


def holds(row: Instance) -> bool:
    """Whether an open brake covers this instance. What began after a restore is known in full, so
    the mark of the restore does not hold it."""
    return any(
        brake.cluster_id is not None or row.created_at <= brake.tripped_at
        for brake in brakes.holding(row.cluster_id)
    )


def waits_for_restore(row: Instance) -> bool:
    """Whether its first create must wait: it was ordered before a restore, and may have been ended
    in the time that the database forgot."""
    return any(
        brake.cluster_id is None and row.created_at <= brake.tripped_at
        for brake in brakes.holding(row.cluster_id)
    )


def may_end(row: Instance, *, reason: str, fault: Fault | None, at: datetime) -> bool:
    """Whether this one end that we decided may be carried out, in the caller's transaction.

    False pulls the brake, or found it pulled.
    """
    renters = (REASONS[reason].fault if fault is None else fault) == Fault.RENTER
    if renters and row.state in COMING_UP:
        return True  # nothing is lost, and nobody else can be to blame
    Cluster.objects.select_for_update(no_key=True).get(pk=row.cluster_id)
    if holds(row):
        return False
    if renters:
        return True
    wanted = 1 + _in_trouble(row, at)
    limit = limit_of(row.cluster_id)
    cause = Brake.Cause.TROUBLE if wanted > limit else Brake.Cause.ENDS
    detail = f"{reason} of {row.pod_name} among others"
    return _judge(row.cluster_id, wanted, limit=limit, cause=cause, detail=detail, at=at)


def judge_list(cluster_id: UUID, bad: Sequence[Instance], *, at: datetime) -> None:
    """Before a full list is applied, with the cluster's row locked: are those that it makes look
    bad too many? Few enough, and a brake that an earlier picture pulled is let go."""
    wanted = _weight(bad)
    own = _own(cluster_id)
    if own is None and not wanted:
        return
    limit = limit_of(cluster_id)
    if own is None:
        cause = Brake.Cause.LIST if wanted > limit else Brake.Cause.ENDS
        detail = f"one list makes {wanted} instances look bad"
        _judge(cluster_id, wanted, limit=limit, cause=cause, detail=detail, at=at)
    elif own.cause in _BY_ITSELF and wanted <= limit:
        note = f"a full list shows {wanted} in trouble"
        brakes.let_go(own, by=brakes.PLATFORM, note=note, at=at)
    else:
        brakes.wanted_more(own, wanted)


def may_delete(cluster_id: UUID, orphans: Sequence[PodFacts]) -> bool:
    """Whether a sweep may delete these pods; if so they are written down as deleted. To be asked
    for none as well: that lets go of what an earlier sweep pulled."""
    with transaction.atomic():
        Cluster.objects.select_for_update(no_key=True).get(pk=cluster_id)
        at, wanted = clock.now(), len(orphans)
        own = _own(cluster_id)
        if own is None and not orphans:
            return False
        limit = limit_of(cluster_id)
        if own is not None and own.cause == Brake.Cause.SWEEP and wanted <= limit:
            note = f"a sweep finds {wanted} to delete"
            brakes.let_go(own, by=brakes.PLATFORM, note=note, at=at)
        elif own is not None:
            brakes.wanted_more(own, wanted)
        if not orphans or brakes.holding(cluster_id):
            return False
        before = _swept(cluster_id, at, without=[pod.uid for pod in orphans])
        counted = max(0, wanted + before - _gone(cluster_id, at))
        cause = Brake.Cause.SWEEP if wanted > limit else Brake.Cause.ENDS
        detail = f"one sweep wants to delete {wanted} pods"
        if counted and not _judge(
            cluster_id, counted, limit=limit, cause=cause, detail=detail, at=at, sweep=True
        ):
            return False
        _write_down(cluster_id, orphans, at)
    return True


def _judge(
    cluster_id: UUID,
    wanted: int,
    *,
    limit: int,
    cause: Brake.Cause,
    detail: str,
    at: datetime,
    sweep: bool = False,
) -> bool:
    done = _ended(cluster_id, at)
    if not sweep:
        # Pods of instances that ended just now are expected on their way out.
        done += max(0, _swept(cluster_id, at) - _gone(cluster_id, at))
    if done + wanted <= limit + brakes.allowed_by_people(cluster_id, since=at - WINDOW):
        return True
    brakes.trip(
        cluster_id,
        cause=cause,
        wanted=done + wanted,
        limit=limit,
        detail=f"{detail}; {done} in the ten minutes before",
        at=at,
    )
    return False


def _own(cluster_id: UUID) -> Brake | None:
    return Brake.objects.filter(cluster=cluster_id, released_at__isnull=True).first()


def _weight(rows: Sequence[Instance]) -> int:
    served = sum(1 for row in rows if row.ready_at is not None)
    return served + len({row.tenant_ref for row in rows if row.ready_at is None})


def _ended(cluster_id: UUID, at: datetime) -> int:
    rows = Instance.objects.filter(
        cluster=cluster_id, end_requested_at__gt=at - WINDOW, end_reason__in=DECIDED
    ).exclude(end_fault=Fault.RENTER.value)
    found = rows.aggregate(
        served=Count("pk", filter=Q(ready_at__isnull=False)),
        tenants=Count("tenant_ref", filter=Q(ready_at__isnull=True), distinct=True),
    )
    return int(found["served"]) + int(found["tenants"])


def _in_trouble(row: Instance, at: datetime) -> int:
    """Others whose time is over as well, or within SOON: they will be wanted next."""
    rows = Instance.objects.filter(
        cluster=row.cluster_id,
        state__in=TROUBLED,
        desired=Instance.Desired.RUN,
        due_at__lte=at + SOON,
    )
    return rows.exclude(pk=row.pk).count()


def _swept(cluster_id: UUID, at: datetime, without: Sequence[str] = ()) -> int:
    rows = DeletedOrphan.objects.filter(cluster=cluster_id, deleted_at__gt=at - WINDOW)
    return rows.exclude(uid__in=without).count()


def _gone(cluster_id: UUID, at: datetime) -> int:
    rows = Instance.objects.filter(cluster=cluster_id, state=InstanceState.GONE)
    return rows.filter(end_requested_at__gt=at - LATEST, gone_at__gt=at - WINDOW).count()


def _write_down(cluster_id: UUID, orphans: Sequence[PodFacts], at: datetime) -> None:
    DeletedOrphan.objects.bulk_create(
        [
            DeletedOrphan(
                cluster_id=cluster_id,
                namespace=pod.namespace,
                name=pod.name,
                uid=pod.uid,
                label=pod.instance,
                deleted_at=at,
            )
            for pod in orphans
        ],
        ignore_conflicts=True,
    )
