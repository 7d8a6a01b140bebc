"""The lease loop against a cluster in memory: who is renewed, fences, answers that are lost."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections, transaction

from kernel import clock
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.clusters import reaper
from provisioner.clusters.reaper import Beat
from provisioner.contracts import Fault, InstanceState, InstanceView, ReaperState
from provisioner.instances import lease
from provisioner.instances.meter import Closing
from provisioner.instances.move import move
from provisioner.instances.state import COMING_UP
from provisioner.inventory.collect import heartbeat
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.models import Cluster, Instance
from provisioner.reconcile import instance_loop, leases
from provisioner.reconcile.pool import PER_CLUSTER
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.test_loops import full_list, loop, started
from tests.area.provisioner.yard import end, make_yard, rent, row_of, sure

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(hours=26)


def wish(view: InstanceView, length: timedelta = DAY) -> None:
    facade.set_leases([(view.rental_ref, clock.now() + length)])


def due(cluster: MemoryCluster) -> int:
    """One run in which every lease with a wish is due."""
    rows = Instance.objects.exclude(lease_until=None).filter(lease_token=None)
    rows.update(lease_due_at=clock.now())
    Cluster.objects.update(retry_at=None)
    return leases.run(cluster.connect)


def stored(cluster: MemoryCluster, view: InstanceView) -> dict[str, Any]:
    spec: dict[str, Any] = cluster.leases[view.namespace, view.pod_name]["spec"]
    return spec


# -- the wish and the calls -------------------------------------------------------------------


def test_the_first_lease_holds_ten_minutes_and_is_told_before_it_is_sent(cluster) -> None:
    cluster.fail("create_lease", lambda: Unsure("timeout", "on order"), after=True)
    view = rent(make_yard())
    loop(cluster)
    row = row_of(view)
    assert cluster.created == [], "no pod before its lease is known to be there"
    left = sure(row.lease_held_until) - clock.now()
    assert lease.FIRST - timedelta(seconds=30) < left <= lease.FIRST
    loop(cluster)
    assert len(cluster.created) == 1
    assert stored(cluster, view)["leaseDurationSeconds"] in (599, 600)
    assert stored(cluster, view)["holderIdentity"] == public("instance", view.id)
    pod = cluster.pods[view.namespace, view.pod_name]
    made = cluster.leases[view.namespace, view.pod_name]
    assert made["metadata"]["labels"] == pod["metadata"]["labels"]


@pytest.mark.parametrize("length", [HOUR, -HOUR])
def test_a_wish_before_the_create_is_what_the_first_lease_gets(cluster, length) -> None:
    view = rent(make_yard())
    wish(view, length)
    loop(cluster)
    seconds = stored(cluster, view)["leaseDurationSeconds"]
    assert seconds in ((3598, 3599, 3600) if length > timedelta(0) else (59, 60))


def test_a_wish_far_away_is_carried_at_once_and_a_near_one_waits(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    assert leases.run(cluster.connect) == 1
    row = row_of(view)
    assert sure(row.lease_held_until) == row.lease_until
    assert row.lease_renewed_at is not None
    assert row.lease_token is None
    assert stored(cluster, view)["leaseDurationSeconds"] >= DAY.total_seconds() - 5
    wait = sure(row.lease_due_at) - clock.now()
    assert timedelta(minutes=23) < wait <= timedelta(minutes=30)

    wish(view, DAY + timedelta(minutes=29))
    assert leases.run(cluster.connect) == 0
    wish(view, DAY + timedelta(minutes=31))
    assert leases.run(cluster.connect) == 1
    wish(view, HOUR)  # the money went elsewhere: shorter counts as well
    assert leases.run(cluster.connect) == 1
    assert stored(cluster, view)["leaseDurationSeconds"] <= 3600
    assert sure(row_of(view).lease_held_until) <= clock.now() + HOUR


@pytest.mark.parametrize(
    ("length", "least", "most"),
    [
        (timedelta(minutes=10), 48, 60),
        (timedelta(hours=2), 576, 720),
        (timedelta(hours=72), 1440, 1800),
    ],
)
def test_renewals_come_after_a_tenth_between_a_minute_and_half_an_hour(
    cluster, length, least, most
) -> None:
    _, view = started(cluster)
    wish(view, length)
    due(cluster)
    wait = (sure(row_of(view).lease_due_at) - clock.now()).total_seconds()
    assert least - 5 < wait <= most


def test_a_renewal_is_one_call_once_the_version_is_known(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    cluster.calls.clear()
    assert due(cluster) == 1
    assert cluster.calls == ["lease_version", "replace_lease"]
    cluster.calls.clear()
    assert due(cluster) == 1
    assert cluster.calls == ["replace_lease"]


def test_a_lease_somebody_wrote_or_deleted_is_mended(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    due(cluster)
    key = (view.namespace, view.pod_name)
    cluster.leases[key]["metadata"]["resourceVersion"] = "7"
    cluster.leases[key]["spec"]["leaseDurationSeconds"] = 1
    assert due(cluster) == 1
    assert stored(cluster, view)["leaseDurationSeconds"] > 3600
    del cluster.leases[key]
    assert due(cluster) == 1
    assert stored(cluster, view)["leaseDurationSeconds"] > 3600
    assert due(cluster) == 1


def test_a_pod_from_before_leases_gets_one(cluster) -> None:
    """Else the reaper would end it ten minutes after it was installed."""
    _, view = started(cluster)
    cluster.leases.clear()
    blank = {"lease_held_until": None, "lease_due_at": None, "lease_version": ""}
    Instance.objects.filter(pk=view.id).update(**blank)
    assert leases.run(cluster.connect) == 0
    wish(view)
    assert leases.run(cluster.connect) == 1
    assert (view.namespace, view.pod_name) in cluster.leases


# -- who is renewed ---------------------------------------------------------------------------


def put(view: InstanceView, state: str, reason: str, **more: Any) -> None:
    Instance.objects.filter(pk=view.id).update(state=state, reason=reason, **more)


@pytest.mark.parametrize(
    ("state", "reason", "renewed"),
    [
        *[(state.value, "creating", state != "reserved") for state in sorted(COMING_UP)],
        ("ready", "ready", True),
        ("degraded", "container_exited", True),
        ("degraded", "not_ready", True),
        ("degraded", "gpu_lost", False),
        ("degraded", "node_not_ready", False),
        ("unreachable", "cluster_unreachable", False),
        ("stopping", "terminated_by_user", False),
        ("gone", "terminated_by_user", False),
    ],
)
def test_who_is_renewed(cluster, state, reason, renewed) -> None:
    _, view = started(cluster)
    wish(view)
    put(view, state, reason)
    before = row_of(view).lease_held_until
    assert due(cluster) == (1 if renewed else 0)
    if not renewed:
        assert row_of(view).lease_held_until == before, "what is not sent is not told"


def test_nobody_renews_what_shall_end_even_before_it_moved(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    put(view, "ready", "ready", desired="end")
    assert due(cluster) == 0


def test_a_host_that_recovers_is_renewed_again(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    put(view, "degraded", "gpu_lost")
    assert due(cluster) == 0
    put(view, "ready", "recovered")
    assert leases.run(cluster.connect) == 1


def test_a_wish_that_is_over_is_left_to_run_out(cluster) -> None:
    _, view = started(cluster)
    wish(view)
    due(cluster)
    held = row_of(view).lease_held_until
    wish(view, -timedelta(seconds=1))
    assert due(cluster) == 0
    assert row_of(view).lease_held_until == held


def test_wishes_reach_live_rentals_alone(cluster) -> None:
    _, view = started(cluster)
    stranger = (new_id(), clock.now() + HOUR)
    assert facade.set_leases([stranger]) == 0
    assert facade.set_leases([]) == 0
    until = clock.now() + HOUR
    assert facade.set_leases([(view.rental_ref, until), stranger]) == 1
    assert facade.set_leases([(view.rental_ref, until)]) == 0, "what is known is not written"
    end(view)
    assert facade.set_leases([(view.rental_ref, until + HOUR)]) == 0


# -- answers that are lost, workers that are late ---------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", [Unavailable, Unsure])
def test_a_lost_answer_leaves_the_later_end_on_record(cluster, kind, after) -> None:
    """Whoever waits for the lease to run out must count the one that may have arrived."""
    _, view = started(cluster)
    wish(view, HOUR)
    due(cluster)
    before = row_of(view)
    wish(view, 2 * HOUR)
    code = "connect" if kind is Unavailable else "timeout"
    cluster.fail("replace_lease", lambda: kind(code, "on order"), after=after)
    assert due(cluster) == 0
    row = row_of(view)
    assert sure(row.lease_held_until) == row.lease_until
    assert row.lease_renewed_at == before.lease_renewed_at
    assert row.lease_token is None
    assert sure(row.lease_due_at) - clock.now() <= leases.AGAIN
    assert Cluster.objects.get().failures == 1
    assert due(cluster) == 1
    assert stored(cluster, view)["leaseDurationSeconds"] > 3600
    assert Cluster.objects.get().failures == 0


def test_one_refused_lease_keeps_no_other_back(cluster) -> None:
    yard = make_yard(cards=4)
    views = [rent(yard), rent(yard)]
    loop(cluster)
    for view in views:
        wish(view)
    cluster.fail("lease_version", lambda: Rejected("quota", "on order"))
    assert due(cluster) == 1
    assert Cluster.objects.get().failures == 0
    assert due(cluster) == 2


def test_a_claimed_batch_is_nobody_elses_until_it_expires(cluster) -> None:
    yard, view = started(cluster)
    wish(view)
    first = sure(leases.claim(yard.cluster.pk))
    assert [order.id for order in first.orders] == [view.id]
    assert leases.claim(yard.cluster.pk) is None
    wish(view, 3 * DAY)  # a wish does not break a claim
    assert leases.claim(yard.cluster.pk) is None
    Instance.objects.filter(pk=view.id).update(lease_due_at=clock.now())
    assert leases.claim(yard.cluster.pk) is not None


def test_a_worker_that_was_stopped_sends_and_writes_nothing(cluster) -> None:
    yard, view = started(cluster)
    wish(view)
    slow = sure(leases.claim(yard.cluster.pk))
    Instance.objects.filter(pk=view.id).update(lease_due_at=clock.now())
    wish(view, 2 * DAY)
    Instance.objects.filter(pk=view.id).update(lease_due_at=clock.now())
    assert leases.run(cluster.connect) == 1
    after = row_of(view)

    late = leases.Batch(
        slow.cluster, slow.token, slow.orders, slow.at, slow.began - leases.SENDING - 1
    )
    cluster.calls.clear()
    assert late.call(cluster).versions == {}
    assert cluster.calls == []
    # And if an answer of its own is still to be written, its token is not there any more.
    leases._finish(slow, leases.Sent({view.id: "9999"}))
    row = row_of(view)
    assert (row.lease_version, row.lease_held_until) == (
        after.lease_version,
        after.lease_held_until,
    )


def test_the_end_waits_for_a_renewal_on_its_way(cluster) -> None:
    """It could make the lease anew after it was deleted, with nobody left to delete it again."""
    yard, view = started(cluster)
    wish(view)
    flying = sure(leases.claim(yard.cluster.pk))
    end(view)
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    assert row_of(view).state == "stopping"
    assert cluster.leases == {}
    sent = flying.call(cluster)  # it arrives now
    assert cluster.leases != {}
    leases._finish(flying, sent)
    loop(cluster)
    assert row_of(view).state == "gone"
    assert cluster.leases == {}


def test_a_renewal_that_never_returns_delays_the_end_by_its_claim_only(cluster) -> None:
    yard, view = started(cluster)
    wish(view)
    assert leases.claim(yard.cluster.pk) is not None
    end(view)
    loop(cluster)
    cluster.finish_deletions()
    Instance.objects.filter(pk=view.id).update(lease_due_at=clock.now())
    loop(cluster)
    assert row_of(view).state == "gone"


@pytest.mark.parametrize("after", [False, True])
def test_a_lease_is_deleted_until_it_is_gone(cluster, after) -> None:
    _, view = started(cluster)
    cluster.fail("delete_lease", lambda: Unsure("timeout", "on order"), after=after, times=2)
    end(view)
    for _ in range(5):
        loop(cluster)
        cluster.finish_deletions()
    assert row_of(view).state == "gone"
    assert cluster.leases == {}


def test_batches_are_bounded_per_cluster_and_a_dead_one_holds_nobody_up(cluster) -> None:
    assert leases.PER_CLUSTER < PER_CLUSTER
    dead, alive = MemoryCluster(), cluster
    yards = [make_yard(cards=4), make_yard(cards=4)]
    views = [rent(yard) for yard in yards]
    by_cluster: dict[UUID, MemoryCluster] = {
        yards[0].cluster.pk: dead,
        yards[1].cluster.pk: alive,
    }

    def connect(row: Cluster) -> MemoryCluster:
        return by_cluster[row.pk]

    instance_loop.run(connect, seconds=0.01)
    for view in views:
        wish(view)
    dead.fail("lease_version", lambda: Unavailable("connect", "on order"), times=5)
    assert leases.run(connect) == 1
    assert sure(row_of(views[1]).lease_renewed_at)
    assert row_of(views[0]).lease_renewed_at is None


def test_many_leases_need_few_statements(cluster, django_assert_max_num_queries) -> None:
    yard, count = make_yard(cards=60, namespaces=2), 60
    tenant = new_id()
    views = [rent(yard, tenant=tenant) for _ in range(count)]
    for _ in range(20):
        loop(cluster)
        if len(cluster.created) == count:
            break
    wishes = [(view.rental_ref, clock.now() + DAY) for view in views]
    with django_assert_max_num_queries(1):
        assert facade.set_leases(wishes) == count
    with django_assert_max_num_queries(30):
        assert leases.run(cluster.connect) == count


@pytest.mark.django_db(transaction=True)
def test_wishes_wait_for_no_row_that_is_held(cluster) -> None:
    _, view = started(cluster)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Instance.objects.select_for_update().get(pk=view.id)
                held.set()
                done.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    wish(view)
    assert row_of(view).lease_until is None
    done.set()
    thread.join(20)
    wish(view)
    assert row_of(view).lease_until is not None


# -- a pod that its lease ended ---------------------------------------------------------------


def vanish(cluster: MemoryCluster, view: InstanceView) -> Any:
    """One list without it, and the look that follows: together they end it."""
    cluster.pods.clear()
    full_list(cluster)
    instance_loop.run(cluster.connect, seconds=0.01)
    return facade.instance_events(rental_ref=view.rental_ref)[-1]


def test_a_pod_that_its_lease_ended_was_not_lost_by_its_host(cluster) -> None:
    _, view = started(cluster)
    past = clock.now() - timedelta(seconds=1)
    Instance.objects.filter(pk=view.id).update(lease_held_until=past)
    event = vanish(cluster, view)
    assert (event.reason, event.fault) == ("lease_over", Fault.UNKNOWN)
    assert "ran out" in event.text


def test_within_its_lease_a_pod_is_lost_by_its_host(cluster) -> None:
    _, view = started(cluster)
    event = vanish(cluster, view)
    assert (event.reason, event.fault) == ("host_lost", Fault.HOST)


def test_a_host_that_lost_a_card_stays_at_fault_when_the_lease_runs_out(cluster) -> None:
    _, view = started(cluster)
    row, at = row_of(view), clock.now()
    closing = Closing(at=at, good_until=at)
    assert move(row, to=InstanceState.DEGRADED, reason="gpu_lost", at=at, closing=closing)
    Instance.objects.filter(pk=view.id).update(lease_held_until=at - timedelta(seconds=1))
    event = vanish(cluster, view)
    assert (event.reason, event.fault) == ("host_lost", Fault.HOST)


# -- the reaper's heartbeat -------------------------------------------------------------------


def note(key: UUID, beat: Beat | None) -> ReaperState:
    return reaper.note(Cluster.objects.get(pk=key), beat, at=clock.now())


def test_a_reaper_is_running_silent_and_running_again(set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    key = make_yard().cluster.pk
    assert note(key, None) == ReaperState.UNKNOWN
    assert note(key, Beat("1", reaper.CURRENT)) == ReaperState.RUNNING
    set_clock("2026-11-01T10:03:00Z")
    assert note(key, Beat("1", reaper.CURRENT)) == ReaperState.RUNNING
    set_clock("2026-11-01T10:03:01Z")
    assert note(key, Beat("1", reaper.CURRENT)) == ReaperState.SILENT
    (view,) = facade.clusters(ids=[key])
    assert view.reaper_state == ReaperState.SILENT
    assert sure(view.reaper_seen_at).isoformat() == "2026-11-01T10:00:00+00:00"
    assert note(key, Beat("2", reaper.CURRENT)) == ReaperState.RUNNING
    assert note(key, None) == ReaperState.RUNNING, "one look that shows none is no silence yet"


def test_a_reaper_that_never_came_is_missing_after_three_minutes(set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    key = make_yard().cluster.pk
    set_clock("2026-11-01T10:03:01Z")
    assert note(key, None) == ReaperState.MISSING


def test_an_old_reaper_is_told_from_a_new_one(set_clock) -> None:
    set_clock("2026-11-01T10:00:00Z")
    key = make_yard().cluster.pk
    assert note(key, Beat("1", reaper.CURRENT - 1)) == ReaperState.OUTDATED
    assert note(key, Beat("2", reaper.CURRENT + 1)) == ReaperState.RUNNING


@pytest.mark.parametrize("code", ["not_found", "forbidden"])
def test_a_cluster_without_the_reapers_file_is_no_broken_cluster(cluster, code) -> None:
    cluster.fail("reaper_lease", lambda: Rejected(code, "on order"))
    assert heartbeat(cluster) is None


def test_a_failing_look_at_the_heartbeat_is_not_read_as_silence(cluster) -> None:
    cluster.fail("reaper_lease", lambda: Unsure("timeout", "on order"))
    with pytest.raises(Unsure):
        heartbeat(cluster)


@pytest.mark.parametrize(
    ("shown", "beat"),
    [
        ({"metadata": {}, "spec": {}}, None),
        ({}, None),
        ({"metadata": [], "spec": "x"}, None),
        ({"spec": {"renewTime": "t"}}, Beat("t", 0)),
        (
            {"metadata": {"annotations": {"gpuyard.io/version": "7"}}, "spec": {"renewTime": "t"}},
            Beat("t", 7),
        ),
        (
            {"metadata": {"annotations": {"gpuyard.io/version": "9" * 9}},
             "spec": {"renewTime": "t" * 99}},
            Beat("t" * 40, 0),
        ),
        (
            {"metadata": {"annotations": {"gpuyard.io/version": "x"}}, "spec": {"renewTime": "t"}},
            Beat("t", 0),
        ),
    ],
)  # fmt: skip
def test_heartbeats_are_read_with_care(cluster, shown, beat) -> None:
    cluster.heartbeat = shown
    assert heartbeat(cluster) == beat
