"""Instances from reservation to absence against a cluster in memory: every step, every failure."""

from __future__ import annotations

import copy
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from kernel import clock
from provisioner import facade
from provisioner.contracts import Fault, InstanceState, PodOrder
from provisioner.instances import release
from provisioner.instances.meter import Closing
from provisioner.instances.move import IllegalMove, move
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.models import (
    Cluster,
    ClusterLoop,
    Hold,
    Instance,
    ReadyInterval,
    Slot,
    UnknownPod,
)
from provisioner.reconcile import claim, instance_loop, observe, orphans
from provisioner.reconcile.claim import claim_instances, release_instance
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import (
    IMAGE,
    conserved,
    end,
    make_yard,
    rent,
    row_of,
    states,
    sure,
)

pytestmark = pytest.mark.django_db


def loop(cluster: MemoryCluster) -> None:
    """One run in which everything is due and no breaker is open."""
    Instance.objects.exclude(due_at=None).update(due_at=clock.now())
    Cluster.objects.update(retry_at=None)
    instance_loop.run(cluster.connect, seconds=0.01)


def full_list(cluster: MemoryCluster) -> None:
    ClusterLoop.objects.update(due_at=clock.now())
    Cluster.objects.update(retry_at=None)
    observe.run(cluster.connect)


def started(cluster: MemoryCluster, **given):
    yard = make_yard(cards=4, **given)
    view = rent(yard, 2)
    loop(cluster)
    cluster.run_pods()
    full_list(cluster)
    assert row_of(view).state == "ready"
    return yard, view


class SlowCluster(MemoryCluster):
    """Its secrets go so slowly that another worker would find the claim expired."""

    def __init__(self, claim: timedelta) -> None:
        super().__init__()
        self.taken: list[Instance] = []
        self._short = claim

    def delete_secret(self, namespace: str, name: str) -> None:
        threading.Event().wait(3 * self._short.total_seconds())
        Instance.objects.update(due_at=clock.now())  # as every full list does
        self.taken += claim_instances(limit=5, busy=[])
        connections.close_all()
        super().delete_secret(namespace, name)


@pytest.mark.django_db(transaction=True)
def test_a_step_at_a_slow_cluster_keeps_its_claim(monkeypatch) -> None:
    """Its calls together may take longer than a claim: each alone is shorter. Without keeping it,
    the absence that it saw was refused, and everything was done again for as long."""
    short = timedelta(seconds=0.4)
    monkeypatch.setattr(claim, "INSTANCE_CLAIM", short)
    monkeypatch.setattr(instance_loop, "KEEP", short.total_seconds() / 4)
    cluster = SlowCluster(short)
    _yard, view = started(cluster)
    end(view)
    cluster.pods.clear()
    instance_loop.run(cluster.connect, seconds=0.01)
    assert cluster.taken == []
    assert row_of(view).state == "gone"


def test_from_reservation_to_absence(cluster) -> None:
    yard = make_yard(cards=4)
    order = PodOrder(
        image=IMAGE,
        secret_env={"TOKEN": "x"},
        pull_secret={"registry": "r.example.com", "username": "u", "password": "p"},
    )
    view = rent(yard, 2, order=order)
    loop(cluster)
    row = row_of(view)
    assert (row.state, row.pod_uid) == ("creating", cluster.created[0])
    assert row.pod_created_at is not None
    pod = cluster.pods[view.namespace, view.pod_name]
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert len(cluster.secrets) == 2
    made = ["create_secret", "create_secret", "create_lease", "create_pod"]
    assert cluster.calls[:4] == made
    assert list(cluster.leases) == [(view.namespace, view.pod_name)]

    cluster.run_pods()
    full_list(cluster)
    row = row_of(view)
    assert row.state == "ready"
    assert row.due_at is None
    interval = ReadyInterval.objects.get(instance=row)
    assert (interval.gpus, interval.closed_at, interval.pod_uid) == (2, None, row.pod_uid)
    assert len(interval.proof["devices"]) == 2

    end(view)
    loop(cluster)
    assert row_of(view).state == "stopping"
    interval.refresh_from_db()
    assert interval.final
    assert interval.good_until == interval.closed_at, "the deletion's answer proved the rest"
    cluster.finish_deletions()
    loop(cluster)
    row = row_of(view)
    assert row.state == "gone"
    assert (cluster.pods, cluster.secrets, cluster.leases) == ({}, {}, {})
    assert states(view) == ["reserved", "creating", "ready", "stopping", "gone"]
    assert set(Slot.objects.values_list("state", flat=True)) == {"free", "dirty"}
    conserved(yard)
    assert len(cluster.created) == 1


def test_slots_rest_five_seconds_after_absence(cluster) -> None:
    yard, view = started(cluster)
    end(view)
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    slot = sure(Slot.objects.filter(state="dirty").first())
    assert sure(slot.free_at) - sure(slot.last_to) == release.DIRTY_FOR == timedelta(seconds=5)
    assert release.recycle() == 0
    Slot.objects.filter(state="dirty").update(free_at=clock.now())
    assert release.recycle() == 2
    assert Slot.objects.filter(state="free").count() == 4
    conserved(yard)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["create_secret", "create_lease", "create_pod"])
@pytest.mark.parametrize("kind", [Unavailable, Unsure])
def test_a_failed_step_of_a_start_is_repeated_and_makes_one_pod(cluster, call, kind, after) -> None:
    code = "connect" if kind is Unavailable else "timeout"
    cluster.fail(call, lambda: kind(code, "on order"), after=after, times=2)
    yard = make_yard()
    view = rent(yard, order=PodOrder(image=IMAGE, secret_env={"A": "b"}))
    for _ in range(4):
        loop(cluster)
    assert len(cluster.created) == 1
    assert row_of(view).pod_uid == cluster.created[0]
    cluster.run_pods()
    full_list(cluster)
    assert row_of(view).state == "ready"
    conserved(yard)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["delete_pod", "delete_secret"])
def test_a_failed_step_of_a_stop_is_repeated_until_nothing_is_left(cluster, call, after) -> None:
    yard = make_yard()
    view = rent(yard, order=PodOrder(image=IMAGE, secret_env={"A": "b"}))
    loop(cluster)
    cluster.run_pods()
    full_list(cluster)
    cluster.fail(call, lambda: Unsure("timeout", "on order"), after=after, times=2)
    end(view)
    for _ in range(6):
        loop(cluster)
        cluster.finish_deletions()
    assert row_of(view).state == "gone"
    assert (cluster.pods, cluster.secrets) == ({}, {})
    conserved(yard)


def test_an_end_before_the_create_makes_no_pod(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    end(view)
    loop(cluster)
    assert row_of(view).state == "gone"
    assert cluster.created == []
    conserved(yard)


def test_absence_counts_only_after_the_last_create_could_still_arrive(cluster) -> None:
    """The create timed out and did not take effect yet; then the renter ends it."""
    yard = make_yard()
    view = rent(yard)
    cluster.fail("create_pod", lambda: Unsure("timeout", "in flight"))
    loop(cluster)
    end(view)
    loop(cluster)
    row = row_of(view)
    assert row.state == "stopping", "the pod may still appear"
    assert row.due_at == row.create_until
    Instance.objects.filter(pk=row.pk).update(create_until=clock.now() - timedelta(seconds=1))
    loop(cluster)
    assert row_of(view).state == "gone"
    conserved(yard)


def test_a_conflict_at_the_deletion_is_no_absence(cluster) -> None:
    """A 409 may be the server's own: the cards stay held while the pod is there."""
    yard = make_yard()
    view = rent(yard)
    loop(cluster)
    end(view)
    cluster.fail("delete_pod", lambda: Rejected("conflict", "409: the object has been modified"))
    loop(cluster)
    assert row_of(view).state != "gone"
    for _ in range(3):
        loop(cluster)
        cluster.finish_deletions()
    assert row_of(view).state == "gone"
    assert cluster.pods == {}
    conserved(yard)


def test_a_pod_that_appears_late_is_deleted_by_the_sweep(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    loop(cluster)
    pod = copy.deepcopy(cluster.pods[view.namespace, view.pod_name])
    end(view)
    for _ in range(2):
        loop(cluster)
        cluster.finish_deletions()
    assert row_of(view).state == "gone"
    cluster.pods[view.namespace, view.pod_name] = pod
    full_list_of_orphans(cluster)
    assert cluster.pods == {}


def full_list_of_orphans(cluster: MemoryCluster) -> None:
    ClusterLoop.objects.update(due_at=clock.now())
    orphans.run(cluster.connect)


def test_a_stranger_with_our_label_is_reported_and_left_alone(cluster) -> None:
    _, view = started(cluster)
    pod = cluster.pods[view.namespace, view.pod_name]
    stranger = copy.deepcopy(pod)
    stranger["metadata"] |= {"name": "gy-other", "uid": "uid-other"}
    stranger["metadata"]["labels"]["gpuyard.io/instance"] = "ins_01h455vb4pex5vsknk084sn02q"
    cluster.pods[view.namespace, "gy-other"] = stranger
    full_list_of_orphans(cluster)
    full_list_of_orphans(cluster)
    assert (view.namespace, "gy-other") in cluster.pods
    assert UnknownPod.objects.get().uid == "uid-other"
    assert row_of(view).state == "ready"


def test_a_server_that_invents_pods_fills_no_table(cluster, monkeypatch) -> None:
    monkeypatch.setattr(orphans, "MOST_UNKNOWN", 3)
    _, view = started(cluster)
    pod = cluster.pods[view.namespace, view.pod_name]

    def invent(first: int) -> None:
        for number in range(first, first + 5):
            made = copy.deepcopy(pod)
            made["metadata"] |= {"name": f"gy-{number}", "uid": f"uid-{number}"}
            made["metadata"]["labels"]["gpuyard.io/instance"] = f"made up {number}"
            cluster.pods[view.namespace, f"gy-{number}"] = made

    for first in (0, 5):
        invent(first)
        full_list_of_orphans(cluster)
        assert UnknownPod.objects.count() == 3
    assert row_of(view).state == "ready"
    seen = set(UnknownPod.objects.values_list("last_seen_at", flat=True))
    assert len(seen) == 1, "those that are known are seen again"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Rejected("invalid", "422 no such field"), "config_error"),
        (Rejected("not_admitted", "403 violates PodSecurity"), "config_error"),
        (Rejected("quota", "403 exceeded quota"), "host_rejected"),
    ],
)
def test_a_refused_pod_ends_the_instance_with_its_reason(cluster, error, reason) -> None:
    yard = make_yard()
    view = rent(yard)
    cluster.fail("create_pod", lambda: error)
    loop(cluster)
    for _ in range(2):
        loop(cluster)
    row = row_of(view)
    assert (row.state, row.end_reason) in (("gone", reason), ("stopping", reason))
    Instance.objects.update(create_until=clock.now() - timedelta(seconds=1))
    loop(cluster)
    assert row_of(view).state == "gone"
    conserved(yard)


def test_a_credential_that_is_refused_marks_the_cluster_not_the_instance(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    cluster.fail("create_pod", lambda: Rejected("unauthorized", "401"))
    loop(cluster)
    found = facade.clusters(ids=[yard.cluster.pk])[0]
    assert (found.state.value, found.reason) == ("credential_rejected", "unauthorized")
    assert "token" in found.detail
    assert row_of(view).state == "creating"
    Cluster.objects.update(retry_at=None)
    loop(cluster)
    assert row_of(view).pod_uid is not None


def test_a_wrong_proof_never_runs_and_is_never_charged(cluster) -> None:
    yard = make_yard(cards=4)
    view = rent(yard, 2)
    loop(cluster)
    cluster.run_pods(missing=1)
    full_list(cluster)
    row = row_of(view)
    assert (row.state, row.reason) == ("stopping", "order_mismatch")
    events = facade.instance_events(rental_ref=view.rental_ref)
    assert events[-1].fault == Fault.HOST
    assert "1 cards were found, 2 were ordered" in events[-1].text
    assert not ReadyInterval.objects.exists()
    for _ in range(2):
        loop(cluster)
        cluster.finish_deletions()
    assert row_of(view).state == "gone"
    conserved(yard)


def test_an_unschedulable_pod_is_given_up_and_its_slot_left_alone(cluster, set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    yard = make_yard(cards=2)
    view = rent(yard)
    loop(cluster)
    cluster.set_status(cluster.only_key(), phase="Pending", refused="insufficient nvidia.com/gpu")
    set_clock("2026-11-01T10:00:05Z")
    full_list(cluster)
    assert row_of(view).seen["trouble"] == "host_rejected"
    set_clock("2026-11-01T10:00:34Z")
    full_list(cluster)
    assert row_of(view).state == "creating"
    set_clock("2026-11-01T10:00:35Z")
    full_list(cluster)
    row = row_of(view)
    assert (row.state, row.reason) == ("stopping", "host_rejected")
    for _ in range(2):
        loop(cluster)
        cluster.finish_deletions()
    slot = Slot.objects.get(state="cordoned")
    assert slot.reason == "occupied_by_owner"
    conserved(yard)
    set_clock("2026-11-01T10:20:00Z")
    assert release.recycle() == 1
    conserved(yard)


def test_a_pod_that_vanishes_was_lost_by_its_host(cluster) -> None:
    yard, view = started(cluster)
    cluster.pods.clear()
    full_list(cluster)
    row = row_of(view)
    assert (row.state, row.reason) == ("unreachable", "not_seen")
    loop(cluster)
    row = row_of(view)
    assert (row.state, row.end_reason) == ("stopping", "host_lost")
    loop(cluster)
    assert row_of(view).state == "gone"
    assert facade.instance_events(rental_ref=view.rental_ref)[-1].fault == Fault.HOST
    conserved(yard)


def test_another_pod_under_the_name_is_not_ours(cluster) -> None:
    _, view = started(cluster)
    cluster.pods[view.namespace, view.pod_name]["metadata"]["uid"] = "uid-imposter"
    full_list(cluster)
    assert row_of(view).reason == "not_seen"
    for _ in range(2):
        loop(cluster)
    row = row_of(view)
    assert (row.state, row.end_reason) == ("gone", "host_lost")
    assert len(cluster.pods) == 1, "it is not deleted either: its UID is not ours"


def test_a_foreign_object_in_our_place_ends_the_instance(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    cluster.pods[view.namespace, view.pod_name] = {
        "metadata": {"name": view.pod_name, "namespace": view.namespace, "uid": "uid-foreign"},
        "spec": {},
        "status": {},
    }
    loop(cluster)
    assert row_of(view).end_reason == "config_error"


# --- claims and guards --------------------------------------------------------------------------


def test_a_claimed_instance_is_nobody_elses(cluster) -> None:
    yard = make_yard()
    rent(yard)
    (row,) = claim_instances(limit=8, busy=[])
    assert claim_instances(limit=8, busy=[]) == []
    Instance.objects.update(claim_until=clock.now() - timedelta(seconds=1))
    (again,) = claim_instances(limit=8, busy=[])
    assert again.claim_token != row.claim_token


def test_a_lost_claim_writes_nothing(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    (slow,) = claim_instances(limit=1, busy=[])
    Instance.objects.update(claim_until=clock.now() - timedelta(seconds=1))
    (quick,) = claim_instances(limit=1, busy=[])
    given: dict[str, Any] = {"to": InstanceState.CREATING, "reason": "creating", "at": clock.now()}
    assert not move(slow, claim=slow.claim_token, **given)
    assert move(quick, claim=quick.claim_token, **given)
    release_instance(slow, token=sure(slow.claim_token), due_at=None)
    assert Instance.objects.get(pk=view.id).claim_token == quick.claim_token
    conserved(yard)


def test_a_wish_that_changes_during_work_wins(cluster) -> None:
    yard = make_yard()
    view = rent(yard)
    (row,) = claim_instances(limit=1, busy=[])
    end(view)
    assert not move(
        row,
        to=InstanceState.CREATING,
        reason="creating",
        at=clock.now(),
        claim=row.claim_token,
    )
    release_instance(row, token=sure(row.claim_token), due_at=None)
    assert Instance.objects.get(pk=view.id).due_at is not None, "the end is still to be done"
    loop(cluster)
    assert row_of(view).state == "gone"


def test_an_illegal_move_is_a_programming_error(cluster) -> None:
    yard = make_yard()
    row = row_of(rent(yard))
    with pytest.raises(IllegalMove):
        move(row, to=InstanceState.GONE, reason="admin", at=clock.now())
    with pytest.raises(IllegalMove):
        move(row, to=InstanceState.UNREACHABLE, reason="cluster_unreachable", at=clock.now())
    with pytest.raises(KeyError):
        move(row, to=InstanceState.STOPPING, reason="no such reason", at=clock.now())


def test_two_movers_of_one_picture_leave_one_event(cluster) -> None:
    yard, view = started(cluster)
    one, two = row_of(view), row_of(view)
    at = clock.now()
    given: dict[str, Any] = {"to": InstanceState.DEGRADED, "reason": "not_ready", "at": at}
    assert move(one, closing=Closing(at, at), **given)
    assert not move(two, closing=Closing(at, at), **given)
    conserved(yard)


def test_events_reach_their_reader_once_and_in_order(cluster) -> None:
    _, view = started(cluster)
    assert facade.behind(limit=10) == [(view.id, view.rental_ref)]
    with transaction.atomic():
        first = facade.take_events(instance_id=view.id)
        assert [event.seq for event in first] == [1, 2, 3]
        facade.ack_events(instance_id=view.id, seq=2)
    with transaction.atomic():
        rest = facade.take_events(instance_id=view.id)
        assert [event.seq for event in rest] == [3]
        facade.ack_events(instance_id=view.id, seq=3)
        facade.ack_events(instance_id=view.id, seq=1)
    assert facade.behind(limit=10) == []
    end(view)
    assert facade.behind(limit=10) == [(view.id, view.rental_ref)]


@pytest.mark.django_db(transaction=True)
def test_a_dead_cluster_does_not_hold_up_another(cluster) -> None:
    dead, alive = make_yard(cards=8, namespaces=8, name="dead"), make_yard(cards=8, name="alive")
    hung = [rent(dead) for _ in range(6)]
    over = threading.Event()

    class Hanging(MemoryCluster):
        def create_pod(self, namespace, body):
            over.wait(3)
            raise Unsure("timeout", "no answer")

    hanging = Hanging()
    runner = threading.Thread(
        target=_run_and_close,
        args=(lambda row: hanging if row.pk == dead.cluster.pk else cluster,),
    )
    runner.start()
    try:
        until(lambda: Instance.objects.filter(state="creating").count() >= 4)
        view, began = rent(alive), time.monotonic()
        until(lambda: row_of(view).pod_uid)
        assert time.monotonic() - began < 1.5, "a hanging cluster takes 3 s for each call"
    finally:
        over.set()
        runner.join()
    assert all(row_of(item).pod_uid is None for item in hung)
    assert Cluster.objects.get(pk=dead.cluster.pk).retry_at is not None
    assert Cluster.objects.get(pk=alive.cluster.pk).retry_at is None


def until(condition, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.01)


def _run_and_close(connect) -> None:
    try:
        instance_loop.run(connect, seconds=3)
    finally:
        connections.close_all()


def test_holds_carry_the_rental_for_auditors(cluster) -> None:
    _, view = started(cluster)
    assert set(Hold.objects.values_list("rental_ref", flat=True)) == {view.rental_ref}
