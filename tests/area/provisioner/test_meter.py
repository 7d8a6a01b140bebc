"""Ready intervals: opened and closed by observations, charged in whole proven seconds."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from kernel import clock
from kernel.arrays import array
from kernel.ids import public
from provisioner import facade
from provisioner.contracts import InstanceView
from provisioner.instances import meter
from provisioner.kube.errors import Unsure
from provisioner.kube.pods import facts
from provisioner.kube.watch import Seen
from provisioner.models import Cluster, ClusterLoop, Instance, Observation, ReadyInterval
from provisioner.reconcile import instance_loop, observe
from provisioner.streams.watcher import apply_seen
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import (
    add_node,
    at_time,
    end,
    make_yard,
    rent,
    row_of,
    states,
    sure,
)
from tests.columns import Window, ack, rows_of

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)


class Day:
    """A simulated day of one instance: ``at`` sets the clock in seconds after START."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.at(0)
        self.yard = make_yard(cards=2)
        self.view: InstanceView = rent(self.yard, 2)
        instance_loop.run(cluster.connect, seconds=0.01)
        cluster.run_pods()

    def at(self, seconds: float) -> datetime:
        moment = START + timedelta(seconds=seconds)
        at_time(moment.isoformat())
        return moment

    def full_list(self, seconds: float) -> None:
        """A full list at that time."""
        self.at(seconds)
        ClusterLoop.objects.update(due_at=START)
        Cluster.objects.update(retry_at=None)
        observe.run(self.cluster.connect)

    def loop(self) -> None:
        Instance.objects.exclude(due_at=None).update(due_at=START)
        Cluster.objects.update(retry_at=None)
        instance_loop.run(self.cluster.connect, seconds=0.01)

    def state(self) -> str:
        return str(row_of(self.view).state)

    def ready(self, on: bool, **given) -> None:
        check = self.cluster.pods[self.cluster.only_key()]["status"]["initContainerStatuses"]
        self.cluster.set_status(
            self.cluster.only_key(),
            ready=on,
            check=check[0]["state"],
            main={"running": {}},
            **given,
        )

    def intervals(self) -> list[tuple[float, float | None, float | None]]:
        """(opened, closed, good until) in seconds after START."""

        def seconds(moment: datetime | None) -> float | None:
            return None if moment is None else (moment - START).total_seconds()

        return [
            (seconds(row.opened_at) or 0.0, seconds(row.closed_at), seconds(row.good_until))
            for row in ReadyInterval.objects.order_by("opened_at")
        ]


@pytest.fixture
def day(cluster, set_clock) -> Day:
    return Day(cluster)


def charge() -> list[Window]:
    """Charge everything that is chargeable now, as the marketplace does."""
    taken: list[Window] = []
    while True:
        with transaction.atomic():
            found = facade.chargeable(limit=10)
            if not found.count:
                return taken
            taken += rows_of(found)
            ack(found)


def seconds(windows: list[Window]) -> list[tuple[int, int]]:
    return [
        (int((w.from_at - START).total_seconds()), int((w.to_at - START).total_seconds()))
        for w in windows
    ]


# --- opening and closing ------------------------------------------------------------------------


def test_the_meter_opens_at_the_observation(day) -> None:
    day.full_list(3.4)
    assert day.state() == "ready"
    assert day.intervals() == [(3.4, None, None)]
    assert Observation.objects.count() == 1


def test_one_row_per_list_however_many_pods(day) -> None:
    for number in range(1, 6):
        day.full_list(5 * number)
    assert Observation.objects.count() == 5
    assert row_of(day.view).event_seq == 3, "an unchanged pod leaves no trace"


def test_a_failure_found_by_a_list_closes_at_the_last_positive_one(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.ready(False)
    day.full_list(15)
    assert day.state() == "degraded"
    assert day.intervals() == [(5, 10, 10)]


def test_a_failure_seen_on_an_unbroken_watch_closes_at_its_arrival(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.ready(False)
    day.at(12.25)
    pod = day.cluster.pods[day.cluster.only_key()]
    apply_seen(day.yard.cluster.pk, Seen("MODIFIED", pod))
    assert day.state() == "degraded"
    assert day.intervals() == [(5, 12.25, 12.25)]
    day.ready(True, ready_since="2026-11-01T10:00:14Z")
    day.at(14.5)
    apply_seen(day.yard.cluster.pk, Seen("MODIFIED", day.cluster.pods[day.cluster.only_key()]))
    assert day.intervals() == [(5, 12.25, 12.25), (14.5, None, None)]


def test_a_gap_under_a_minute_with_an_unchanged_pod_is_bridged(day) -> None:
    day.full_list(5)
    day.full_list(64)
    assert day.state() == "ready"
    assert day.intervals() == [(5, None, None)]


@pytest.mark.parametrize("change", [{"restarts": 1}, {"ready_since": "2026-11-01T10:00:30Z"}])
def test_a_gap_with_a_changed_pod_is_not_bridged(day, change) -> None:
    day.full_list(5)
    day.full_list(10)
    day.ready(True, **change)
    day.full_list(40)
    assert day.state() == "ready"
    assert day.intervals() == [(5, 10, 10), (40, None, None)]


def test_a_longer_gap_is_not_charged_whoever_was_blind(day) -> None:
    """Nobody looked for 61 s, not even the sweep for silent clusters."""
    day.full_list(5)
    day.full_list(66)
    assert day.state() == "ready"
    assert day.intervals() == [(5, 5, 5), (66, None, None)]
    assert states(day.view)[-2:] == ["unreachable", "ready"]


def test_silence_makes_unreachable_and_closes_back_dated(day) -> None:
    day.full_list(5)
    day.cluster.fail("list_pods", lambda: Unsure("timeout", "silent"), times=100)
    day.full_list(30)
    assert day.state() == "ready"
    day.full_list(65)
    assert day.state() == "ready", "sixty seconds are still fresh"
    day.full_list(65.1)
    assert day.state() == "unreachable"
    assert day.intervals() == [(5, 5, 5)]
    found = facade.clusters(ids=[day.yard.cluster.pk])[0]
    assert (found.state.value, found.reason) == ("unreachable", "timeout")


def test_recovery_needs_the_same_pod(day) -> None:
    test_silence_makes_unreachable_and_closes_back_dated(day)
    day.cluster._faults.clear()
    day.full_list(200)
    assert day.state() == "ready"
    assert day.intervals() == [(5, 5, 5), (200, None, None)]
    assert facade.clusters(ids=[day.yard.cluster.pk])[0].state.value == "ready"


def test_a_lost_pod_closes_where_it_was_last_proven(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.cluster.pods.clear()
    day.full_list(15)
    assert day.intervals() == [(5, 10, 10)]
    assert (day.state(), row_of(day.view).reason) == ("unreachable", "not_seen")
    day.loop()
    assert row_of(day.view).end_reason == "host_lost", "the second answer says the same"


def test_a_list_that_ends_a_long_gap_does_not_bridge_it_by_itself(day) -> None:
    """Also when nobody looked for silent clusters in between."""
    day.full_list(5)
    pod = facts(day.cluster.pods[day.cluster.only_key()])
    sent_at = day.at(66)
    shown = {public("instance", day.view.id): sure(pod)}
    listing = observe.Listing(shown, frozenset([day.view.namespace]), sent_at, 0.1)
    observe.apply_list(day.yard.cluster.pk, listing, at=clock.now())
    assert day.intervals() == [(5, 5, 5), (66, None, None)]


def test_an_older_picture_does_not_undo_a_newer_one(day) -> None:
    """A list is read while the watch is already further."""
    old = copy.deepcopy(day.cluster.pods[day.cluster.only_key()])
    old["status"]["conditions"][0]["status"] = "False"
    day.ready(True, ready_since="2026-11-01T10:00:04Z")
    day.full_list(5)
    day.at(6)
    apply_seen(day.yard.cluster.pk, Seen("MODIFIED", old))
    assert day.state() == "ready"
    assert day.intervals() == [(5, None, None)]


def test_an_overtaken_list_changes_nothing(day) -> None:
    """A slow list that was sent before a newer one is no news."""
    day.full_list(5)
    day.full_list(10)
    empty = observe.Listing({}, frozenset([day.view.namespace]), START, 0.1)
    observe.apply_list(day.yard.cluster.pk, empty, at=clock.now())
    assert day.state() == "ready"
    assert Observation.objects.count() == 2


def test_a_list_does_not_judge_pods_created_after_it_was_sent(day) -> None:
    day.at(20)
    young = rent(make_more(day), 1)
    day.loop()
    day.full_list(25)
    sent = sure(row_of(young).pod_created_at) - timedelta(seconds=1)
    Cluster.objects.update(last_positive_at=START)
    listing = observe.Listing({}, frozenset([young.namespace]), sent, 0.1)
    observe.apply_list(day.yard.cluster.pk, listing, at=clock.now())
    assert row_of(young).state != "stopping"


def make_more(day: Day):
    add_node(day.yard, "more", 2)
    return day.yard


# --- stopping -----------------------------------------------------------------------------------


def test_a_stop_closes_at_the_request_and_the_deletions_answer_proves_it(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.at(13.7)
    end(day.view)
    assert day.intervals() == [(5, 13.7, 10)]
    assert charge() == [], "what may still be proven is not settled yet"
    day.at(14)
    day.loop()
    assert day.intervals() == [(5, 13.7, 13.7)]
    assert seconds(charge()) == [(5, 13)]
    assert facade.is_settled(rental_ref=day.view.rental_ref)


def test_a_stop_whose_pod_had_changed_is_charged_up_to_the_last_proof(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.at(13.7)
    end(day.view)
    day.ready(True, restarts=3)
    day.loop()
    assert day.intervals() == [(5, 13.7, 10)]
    assert seconds(charge()) == [(5, 10)]


def test_a_stop_of_an_unreachable_cluster_settles_after_a_minute(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.at(13.7)
    end(day.view)
    day.cluster.fail("delete_pod", lambda: Unsure("timeout", "silent"), times=100)
    day.cluster.fail("list_pods", lambda: Unsure("timeout", "silent"), times=100)
    day.loop()
    assert charge() == []
    day.full_list(75)
    assert seconds(charge()) == [(5, 10)]


# --- charging -----------------------------------------------------------------------------------


def test_hours_are_charged_when_proven_beyond_their_end(day) -> None:
    for at in (5, 60, 120):
        day.full_list(at)
    for at in range(170, 3600, 50):
        day.full_list(at)
    assert charge() == []
    day.full_list(3601)
    assert seconds(charge()) == [(5, 3600)]
    assert charge() == []
    assert not facade.is_settled(rental_ref=day.view.rental_ref)
    day.full_list(3650)
    assert charge() == []


def test_an_interval_over_hours_is_cut_at_their_boundaries(day) -> None:
    day.full_list(0.2)
    ReadyInterval.objects.update(opened_at=START + timedelta(minutes=50, seconds=0.5))
    ReadyInterval.objects.update(charged_to=START + timedelta(minutes=50, seconds=1))
    closed = START + timedelta(hours=2, minutes=5, seconds=7.9)
    ReadyInterval.objects.update(closed_at=closed, good_until=closed, final=True)
    day.at(8000)
    found = charge()
    assert seconds(found) == [(3001, 3600), (3600, 7200), (7200, 7507)]
    assert facade.is_settled(rental_ref=day.view.rental_ref)


def test_less_than_a_whole_second_is_settled_without_a_window(day) -> None:
    day.full_list(5.2)
    closed = START + timedelta(seconds=5.9)
    ReadyInterval.objects.update(closed_at=closed, good_until=closed, final=True)
    assert charge() == []
    assert facade.is_settled(rental_ref=day.view.rental_ref)


def test_a_charge_that_rolls_back_is_chargeable_again(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.ready(False)
    day.full_list(15)
    with transaction.atomic():
        ack(facade.chargeable(limit=10))
        transaction.set_rollback(True)
    assert seconds(charge()) == [(5, 10)]


def test_an_acknowledgement_never_goes_back(day) -> None:
    day.full_list(5)
    day.full_list(10)
    day.ready(False)
    day.full_list(15)
    charge()
    row = ReadyInterval.objects.get()
    facade.ack_charged(interval_ids=array([row.pk]), to_at=array([START]))
    assert ReadyInterval.objects.get().charged_to == row.charged_to


def test_random_days_charge_each_proven_second_once(cluster, set_clock) -> None:
    """Any mixture of lists, failures, restarts, silences and hours: windows never overlap, lie in
    their intervals, in one hour each, and add up to what was proven."""
    for seed in range(4):
        dice = random.Random(seed)
        cluster.pods.clear()
        day, now, taken = Day(cluster), 0.0, []
        for _ in range(60):
            now += dice.choice([0.3, 4.9, 5, 30, 59, 61, 400])
            event = dice.random()
            if event < 0.2:
                day.ready(dice.random() < 0.5, restarts=dice.randrange(3))
            if event > 0.9:
                day.cluster.fail("list_pods", lambda: Unsure("timeout", "x"))
            day.full_list(now)
            taken += charge()
        day.at(now + 1)
        end(day.view)
        day.loop()
        day.full_list(now + 70)
        taken += charge()
        assert facade.is_settled(rental_ref=day.view.rental_ref)
        _check(taken, day.view.rental_ref)


def _check(taken: list[Window], rental: UUID) -> None:
    by_interval: dict[UUID, list[Window]] = {}
    for window in taken:
        by_interval.setdefault(window.source_ref, []).append(window)
        assert window.from_at < window.to_at
        assert window.from_at.microsecond == window.to_at.microsecond == 0
        assert clock.hour_of(window.from_at) == clock.hour_of(
            window.to_at - timedelta(seconds=1)
        ), "inside one hour"
    rows = list(ReadyInterval.objects.filter(rental_ref=rental).order_by("opened_at"))
    assert rows
    for before, after in pairwise(rows):
        assert sure(before.closed_at) <= after.opened_at
    for row in rows:
        expected = clock.floor_second(sure(row.good_until)) - clock.ceil_second(row.opened_at)
        windows = by_interval.get(row.pk, [])
        charged = sum((w.to_at - w.from_at for w in windows), timedelta())
        assert charged == max(expected, timedelta())
        for first, second in pairwise(windows):
            assert first.to_at == second.from_at


# --- evidence -----------------------------------------------------------------------------------


def test_every_charged_second_has_its_evidence(day) -> None:
    for at in (5, 10, 15):
        day.full_list(at)
    day.at(17)
    end(day.view)
    day.loop()
    (window,) = charge()
    found = facade.evidence(
        interval_id=window.source_ref, from_at=window.from_at, to_at=window.to_at
    )
    assert found.pod_uid == day.cluster.created[0]
    assert len(found.proof["devices"]) == 2
    assert found.proof["at_end"]["ready"] is True
    assert [kind for _, kind in found.observations] == ["list"] * 3
    assert found.close_reason == "terminated_by_user"
    assert (found.gaps, found.unproven_seconds) == ((), 0)


def test_the_schema_keeps_one_open_interval(day) -> None:
    day.full_list(5)
    row = row_of(day.view)
    with pytest.raises(IntegrityError), transaction.atomic():
        meter.open_interval(row, at=clock.now(), pod_uid="x", proof={})
