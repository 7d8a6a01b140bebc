"""The mass brake: whatever makes many rentals look bad at once takes none of them away."""

from __future__ import annotations

import copy
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from structlog.testing import capture_logs

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.contracts import Fault, InstanceView, NoCandidate
from provisioner.instances import release
from provisioner.kube.watch import Seen
from provisioner.models import (
    Brake,
    Cluster,
    ClusterLoop,
    Instance,
    InstanceEvent,
    NodeShare,
    ReadyInterval,
    Slot,
    UnknownPod,
)
from provisioner.reconcile import instance_loop, observe, orphans
from provisioner.streams.watcher import apply_seen
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import Yard, add_node, conserved, end, make_yard, rent, row_of
from tests.restore import Backup

pytestmark = pytest.mark.django_db


class Fleet:
    """Many ready instances of one tenant in one cluster."""

    def __init__(self, cluster: MemoryCluster, number: int) -> None:
        self.cluster = cluster
        self.yard: Yard = make_yard(cards=number, namespaces=2)
        self.tenant = uuid4()
        self.views: list[InstanceView] = [
            rent(self.yard, tenant=self.tenant) for _ in range(number)
        ]
        self.loop()
        cluster.run_pods()
        self.list()
        assert self.count("ready") == number

    def loop(self) -> None:
        """One run in which everything is due."""
        Instance.objects.exclude(due_at=None).update(due_at=clock.now())
        Cluster.objects.update(retry_at=None)
        instance_loop.run(self.cluster.connect, seconds=30)

    def run(self) -> None:
        """One run as the schedule would do it: what is due, and nothing else."""
        Cluster.objects.update(retry_at=None)
        instance_loop.run(self.cluster.connect, seconds=30)

    def list(self) -> None:
        ClusterLoop.objects.update(due_at=clock.now())
        Cluster.objects.update(retry_at=None)
        observe.run(self.cluster.connect)

    def sweep(self) -> None:
        ClusterLoop.objects.update(due_at=clock.now())
        Cluster.objects.update(retry_at=None)
        orphans.run(self.cluster.connect)

    def count(self, state: str, reason: str | None = None) -> int:
        rows = Instance.objects.filter(state=state)
        return rows.count() if reason is None else rows.filter(reason=reason).count()

    def ended(self) -> int:
        return self.count("stopping") + self.count("gone")

    def brake(self) -> Brake:
        return Brake.objects.get(released_at=None)

    def release(self, brake: Brake) -> None:
        with transaction.atomic():
            facade.release_brake(brake_id=brake.pk, by="staff:x", note="they are really gone")

    def seen_deleted(self, view: InstanceView) -> None:
        """The watch reports the deletion of this pod."""
        pod = self.cluster.pods.pop((view.namespace, view.pod_name))
        apply_seen(self.yard.cluster.pk, Seen("DELETED", pod))


@pytest.fixture
def fifty(cluster: MemoryCluster) -> Fleet:
    return Fleet(cluster, 50)


@pytest.fixture
def fleet(cluster: MemoryCluster) -> Fleet:
    """Some more than the limit of ten."""
    return Fleet(cluster, 14)


def test_an_empty_list_with_200_ends_nobody(fifty: Fleet) -> None:
    fleet = fifty
    fleet.list()
    pods = dict(fleet.cluster.pods)
    proven = Cluster.objects.get().last_positive_at
    fleet.cluster.pods.clear()
    with capture_logs() as logs:
        fleet.list()
    assert fleet.count("degraded", "platform_incident") == 50
    brake = fleet.brake()
    assert (brake.cause, brake.wanted, brake.limit) == ("list", 50, 10)
    assert [row["log_level"] for row in logs if row["event"] == "mass_brake"] == ["error"]
    faults = InstanceEvent.objects.filter(reason="platform_incident").values_list("fault")
    assert set(faults) == {(Fault.PLATFORM.value,)}
    intervals = ReadyInterval.objects.all()
    assert intervals.count() == 50
    assert all(row.closed_at == row.good_until == proven for row in intervals)

    fleet.loop()  # every single pod is asked for, and is not there either
    fleet.list()
    fleet.loop()
    assert fleet.ended() == 0
    assert Brake.objects.count() == 1
    assert "delete_pod" not in fleet.cluster.calls

    fleet.cluster.pods.update(pods)
    fleet.list()
    assert fleet.count("ready", "recovered") == 50
    brake.refresh_from_db()
    assert (brake.released_by, brake.released_at is None) == ("platform", False)
    assert ReadyInterval.objects.filter(closed_at=None).count() == 50
    conserved(fleet.yard)


def test_pods_that_are_really_gone_end_once_a_person_said_so(fleet: Fleet) -> None:
    fleet.cluster.pods.clear()
    fleet.list()
    fleet.loop()
    assert fleet.ended() == 0
    fleet.release(fleet.brake())
    assert Instance.objects.filter(due_at__lte=clock.now()).count() == 14
    fleet.run()
    fleet.loop()
    assert fleet.count("gone") == 14
    assert not Brake.objects.filter(released_at=None).exists()
    conserved(fleet.yard)


def test_a_few_absent_pods_are_asked_for_one_by_one(fleet: Fleet) -> None:
    """Two of five were only missing in that list."""
    lost = {key: fleet.cluster.pods.pop(key) for key in list(fleet.cluster.pods)[:5]}
    fleet.list()
    assert fleet.count("unreachable", "not_seen") == 5
    fleet.cluster.pods.update(dict(list(lost.items())[:2]))
    fleet.run()
    assert fleet.count("ready") == 11
    assert fleet.ended() == 3
    assert not Brake.objects.exists()


def test_cards_of_all_machines_lost_at_once_are_our_incident(fifty: Fleet) -> None:
    fleet = fifty
    NodeShare.objects.update(short=True)
    fleet.list()
    assert fleet.count("degraded", "platform_incident") == 50
    assert not InstanceEvent.objects.filter(reason="gpu_lost").exists()
    assert fleet.brake().cause == "list"
    events = InstanceEvent.objects.count()
    fleet.list()
    fleet.loop()
    assert InstanceEvent.objects.count() == events, "said once"
    # Their grace runs out, and still nobody loses a pod: time alone decides nothing here.
    Instance.objects.update(state_since=clock.now() - timedelta(hours=2))
    fleet.loop()
    assert fleet.ended() == 0

    NodeShare.objects.update(short=False)
    fleet.list()
    assert fleet.count("ready") == 50
    assert not Brake.objects.filter(released_at=None).exists()


def test_cards_of_a_few_machines_are_their_hosts_fault(cluster: MemoryCluster) -> None:
    fleet = Fleet(cluster, 8)
    NodeShare.objects.update(short=True)
    fleet.list()
    assert fleet.count("degraded", "gpu_lost") == 8
    assert not Brake.objects.exists()


def test_ends_that_come_one_by_one_add_up(fleet: Fleet) -> None:
    for view in fleet.views[:13]:
        fleet.seen_deleted(view)
    assert fleet.ended() == 10
    assert fleet.count("degraded", "platform_incident") == 3
    brake = fleet.brake()
    assert (brake.cause, brake.wanted) == ("ends", 11)

    fleet.list()
    assert fleet.brake() == brake, "only a person can tell what a trickle is"
    fleet.release(brake)
    fleet.loop()
    assert fleet.ended() == 13
    assert fleet.count("ready") == 1


def test_wishes_pass_a_pulled_brake_and_are_not_counted(fleet: Fleet) -> None:
    for view in fleet.views[:11]:
        end(view)
    assert fleet.count("stopping") == 11
    fleet.seen_deleted(fleet.views[12])
    assert not Brake.objects.exists()
    Brake.objects.create(
        cluster=fleet.yard.cluster, cause="ends", tripped_at=clock.now(), wanted=11, limit=10
    )
    end(fleet.views[13])
    fleet.seen_deleted(fleet.views[11])
    for _ in range(2):
        fleet.loop()
        fleet.cluster.finish_deletions()
    assert fleet.count("gone") == 13
    assert row_of(fleet.views[11]).reason == "platform_incident"


def test_a_lost_cluster_whose_graces_end_together_loses_nobody(fleet: Fleet) -> None:
    old = clock.now() - timedelta(minutes=11)
    Cluster.objects.update(last_positive_at=old)
    ReadyInterval.objects.update(opened_at=old)
    observe.expire()
    assert fleet.count("unreachable", "cluster_unreachable") == 14
    Instance.objects.update(state_since=old, due_at=clock.now())
    fleet.run()
    assert fleet.ended() == 0
    assert fleet.brake().cause == "trouble"
    assert not Instance.objects.filter(due_at__lte=clock.now()).exists(), "no hot loop"
    fleet.list()
    assert fleet.count("ready") == 14
    assert not Brake.objects.filter(released_at=None).exists()


def test_one_tenants_bad_orders_hold_nobody(cluster: MemoryCluster) -> None:
    yard = make_yard(cards=14, namespaces=4)
    tenant = uuid4()
    views = [rent(yard, tenant=tenant) for _ in range(14)]
    Instance.objects.update(created_at=clock.now() - timedelta(minutes=3))
    Instance.objects.update(state_since=clock.now() - timedelta(minutes=3))
    instance_loop.run(cluster.connect, seconds=30)
    assert {row_of(view).end_reason for view in views} == {"start_timeout"}
    assert not Brake.objects.exists()


# --- sweeps -------------------------------------------------------------------------------------


def plant_orphans(fleet: Fleet, number: int) -> None:
    """Pods of instances that were over an hour ago."""
    key, pod = next(iter(fleet.cluster.pods.items()))
    template = Instance.objects.get(pk=fleet.views[0].id)
    for _ in range(number):
        template.pk, template.rental_ref = new_id(), new_id()
        template.state, template.gone_at = "gone", clock.now() - timedelta(hours=1)
        template.save(force_insert=True)
        orphan = copy.deepcopy(pod)
        name = f"gy-{template.pk.hex}"
        orphan["metadata"] |= {"name": name, "uid": f"uid-{name}"}
        orphan["metadata"]["labels"]["gpuyard.io/instance"] = public("instance", template.pk)
        fleet.cluster.pods[key[0], name] = orphan


@pytest.fixture
def small(cluster: MemoryCluster) -> Fleet:
    return Fleet(cluster, 2)


def test_many_orphans_at_once_are_listed_and_left_alone(small: Fleet) -> None:
    plant_orphans(small, 30)
    small.sweep()
    small.sweep()
    assert len(small.cluster.pods) == 32
    assert (small.brake().cause, small.brake().wanted) == ("sweep", 30)
    small.release(small.brake())
    small.sweep()
    assert len(small.cluster.pods) == 2


def test_a_sweep_that_finds_few_lets_go_of_what_it_pulled(small: Fleet) -> None:
    before = dict(small.cluster.pods)
    plant_orphans(small, 30)
    small.sweep()
    small.cluster.pods = dict(list(small.cluster.pods.items())[:7])
    small.sweep()
    assert small.cluster.pods == before
    assert Brake.objects.get().released_by == "platform"


def test_orphans_of_several_sweeps_add_up(small: Fleet) -> None:
    for _ in range(3):
        plant_orphans(small, 5)
        small.sweep()
    assert len(small.cluster.pods) == 2 + 5
    assert small.brake().cause == "ends"


# --- people -------------------------------------------------------------------------------------


def test_a_release_needs_a_note_and_happens_once(fleet: Fleet) -> None:
    fleet.cluster.pods.clear()
    fleet.list()
    brake = fleet.brake()
    with pytest.raises(InvalidRequest):
        facade.release_brake(brake_id=brake.pk, by="staff:x", note=" ")
    with pytest.raises(NotFound):
        facade.release_brake(brake_id=uuid4(), by="staff:x", note="seen")
    fleet.release(brake)
    with pytest.raises(Refusal, match="released by staff:x"):
        facade.release_brake(brake_id=brake.pk, by="staff:y", note="me too")
    assert [view.released_by for view in facade.brakes()] == ["staff:x"]


# --- after a restore ----------------------------------------------------------------------------


def rested(slots: int) -> None:
    """The rest of so many slots is over."""
    Slot.objects.exclude(free_at=None).update(free_at=clock.now())
    assert release.recycle() == slots


def test_after_a_restore_nothing_is_deleted_ended_or_metered(cluster: MemoryCluster) -> None:
    fleet = Fleet(cluster, 4)
    end(fleet.views[3])
    for _ in range(2):
        fleet.loop()
        cluster.finish_deletions()
    rested(1)
    starting = rent(fleet.yard, tenant=fleet.tenant)
    backup = Backup("provisioner")

    # The hour that will be forgotten.
    fleet.loop()
    cluster.run_pods()
    fleet.list()
    assert row_of(starting).state == "ready"
    for view in (starting, fleet.views[0]):
        end(view)
    for _ in range(3):
        fleet.loop()
        cluster.finish_deletions()
    assert row_of(starting).state == row_of(fleet.views[0]).state == "gone"
    rested(2)
    forgotten = rent(fleet.yard, tenant=fleet.tenant)
    fleet.loop()
    cluster.run_pods()
    fleet.list()
    assert row_of(forgotten).state == "ready"
    pods, made = dict(cluster.pods), len(cluster.created)

    backup.restore()
    with transaction.atomic():
        mark = facade.mark_restored(backup_at=backup.taken_at)
        assert facade.mark_restored(backup_at=backup.taken_at) == mark
    cluster.calls.clear()
    for _ in range(2):
        fleet.loop()
        fleet.list()
        fleet.sweep()
    assert cluster.pods.keys() == pods.keys()
    assert len(cluster.created) == made, "the forgotten start is not made again"
    assert "delete_pod" not in cluster.calls
    assert row_of(fleet.views[0]).state in ("degraded", "unreachable"), "the list contradicts it"
    assert row_of(fleet.views[1]).state == "ready"
    assert row_of(starting).state == "reserved"
    assert not ReadyInterval.objects.filter(instance=fleet.views[0].id, closed_at=None).exists()
    (unknown,) = facade.unknown_pods()
    assert unknown.name == forgotten.pod_name
    assert UnknownPod.objects.count() == 1

    brake = fleet.brake()
    assert (brake.cause, brake.cluster_id, brake.backup_at) == ("restored", None, backup.taken_at)
    fleet.release(brake)
    for _ in range(3):
        fleet.loop()
    assert row_of(fleet.views[0]).end_reason == "host_lost"
    fleet.sweep()
    assert (forgotten.namespace, forgotten.pod_name) in cluster.pods, "unknown stays untouched"


def test_while_a_restore_is_open_known_tenants_rent_and_others_wait(small: Fleet) -> None:
    add_node(small.yard, "more", 4)
    with transaction.atomic():
        facade.mark_restored(backup_at=clock.now() - timedelta(hours=1))
    view = rent(small.yard, tenant=small.tenant)
    with pytest.raises(NoCandidate):
        rent(small.yard, tenant=uuid4())
    # An unknown pod sits on the slot: what began after the restore is known in full, and ends.
    small.loop()
    key = (view.namespace, view.pod_name)
    small.cluster.set_status(key, phase="Pending", refused="insufficient nvidia.com/gpu")
    small.list()
    row = row_of(view)
    row.seen["trouble_since"] = (clock.now() - timedelta(minutes=1)).isoformat()
    row.save(update_fields=["seen"])
    small.list()
    assert row_of(view).end_reason == "host_rejected"


def test_a_restore_from_the_future_is_a_slip(db: None) -> None:
    with pytest.raises(InvalidRequest, match="backup_time"):
        facade.mark_restored(backup_at=clock.now() + timedelta(minutes=1))
    assert not Brake.objects.exists()
