"""A machine that could be entered and cannot any more: looked for, believed slowly, blamed on
nobody without cause, and never a way off the meter."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from kernel import clock
from provisioner.contracts import InstanceView
from provisioner.instances import entry, proof, shut
from provisioner.instances.shut import LOOK_EVERY, SHUT_AFTER
from provisioner.instances.vitals import vitals
from provisioner.models import Cluster, Entry, Instance, Reporter
from tests.area.provisioner.test_meter import START, Day
from tests.area.provisioner.yard import make_yard, rent, row_of, states

pytestmark = pytest.mark.django_db
KEY = ["SHA256:abc"]


@pytest.fixture
def day(cluster, set_clock) -> Day:
    """One machine with a key, running, entered at second 10."""
    found = Day(cluster)
    key(found.view)
    found.full_list(5)
    found.at(10)
    entry.tried(found.view.id, error="")
    return found


def key(view: InstanceView, prints: list[str] = KEY) -> None:
    Entry.objects.update_or_create(
        rental_ref=view.rental_ref, defaults={"authorized": prints, "changed_at": clock.now()}
    )


def fail(view: InstanceView, times: int = SHUT_AFTER) -> None:
    for _ in range(times):
        entry.tried(view.id, error="SSH of this machine does not answer")


def due(view: InstanceView) -> list[UUID]:
    return [instance for _, instance in shut.doubted(clusters=[view.cluster_id])]


def says(view: InstanceView, ssh: str, *, at) -> None:
    Reporter.objects.update_or_create(
        pk=view.id, defaults={"reported_at": at, "pod_at": at, "ssh": ssh}
    )


def proven(day: Day, *, until: float) -> list[tuple[float, float]]:
    """Seconds after the day's start."""
    found = proof.proven([day.view.rental_ref], until=day.at(until))
    return [
        ((begins - START).total_seconds(), (ends - START).total_seconds())
        for begins, ends in found[day.view.rental_ref]
    ]


def figures(name: str) -> list[float]:
    return [each.value for each in vitals() if each.name == name]


def test_an_open_way_is_looked_at_when_its_reporter_doubts_it_and_from_time_to_time(day) -> None:
    assert due(day.view) == []
    says(day.view, "up", at=day.at(20))
    assert due(day.view) == []
    says(day.view, "down", at=day.at(30))
    assert due(day.view) == [day.view.id]
    entry.tried(day.view.id, error="")  # it lied, or is well again
    assert due(day.view) == []
    says(day.view, "up", at=day.at(31))
    day.at(30 + LOOK_EVERY.total_seconds() - 1)
    assert due(day.view) == []
    day.at(30 + LOOK_EVERY.total_seconds())
    assert due(day.view) == [day.view.id]
    assert shut.doubted(clusters=[uuid4()]) == []


def test_one_that_is_not_open_yet_or_has_no_key_or_is_ending_is_not_doubted(day) -> None:
    day.at(10 + LOOK_EVERY.total_seconds())
    for change in (
        lambda: key(day.view, []),
        lambda: Instance.objects.update(desired=Instance.Desired.END),
        lambda: Instance.objects.update(state="starting"),
    ):
        assert due(day.view) == [day.view.id]
        change()
        assert due(day.view) == []
        key(day.view)
        Instance.objects.update(desired=Instance.Desired.RUN, state="ready")
    row = row_of(day.view)
    row.way_in.proven_at = None
    row.way_in.save()
    assert due(day.view) == []


def test_a_shut_way_is_tried_again_at_once_and_then_less_and_less_often(day) -> None:
    fail(day.view, 1)
    day.at(10.5)
    assert due(day.view) == [day.view.id]
    fail(day.view, 6)
    day.at(10.5 + 31.9)
    assert due(day.view) == []
    day.at(10.5 + 32)
    assert due(day.view) == [day.view.id]


def test_a_minute_of_failures_makes_it_degraded_and_the_meter_goes_on(day) -> None:
    fail(day.view, SHUT_AFTER - 1)
    day.full_list(15)
    assert day.state() == "ready"
    fail(day.view, 1)
    day.full_list(20)
    row = row_of(day.view)
    assert (row.state, row.reason) == ("degraded", "ssh_down")
    day.full_list(30)
    day.full_list(40)
    assert states(day.view).count("degraded") == 1  # said once
    entry.tried(day.view.id, error="")
    day.full_list(50)
    row = row_of(day.view)
    assert (row.state, row.reason) == ("ready", "recovered")
    # One proven stretch, also where no watch was open: every list showed the same container.
    assert day.intervals() == [(5, None, None)]
    assert proven(day, until=60) == [(5, 50)]


def test_another_container_in_a_gap_is_not_bridged(day) -> None:
    fail(day.view)
    day.full_list(20)
    day.ready(True, restarts=1)
    day.full_list(40)
    first, *_ = day.intervals()
    assert first == (5, 20, 20)  # good until the last list that showed the old one


def test_a_program_that_ended_comes_before_a_way_that_is_shut(day) -> None:
    day.cluster.set_status(
        day.cluster.only_key(),
        ready=False,
        check=day.cluster.pods[day.cluster.only_key()]["status"]["initContainerStatuses"][0][
            "state"
        ],
        main={"terminated": {"exitCode": 1, "reason": "Error"}},
    )
    fail(day.view)
    day.full_list(20)
    assert row_of(day.view).reason == "container_exited"
    day.ready(True)
    day.full_list(30)
    assert row_of(day.view).reason == "ssh_down"


def test_without_keys_nobody_is_shut_out(day) -> None:
    key(day.view, [])
    fail(day.view)
    day.full_list(20)
    assert day.state() == "ready"


def beside(day: Day, *, tenant: UUID | None = None) -> InstanceView:
    """A second machine behind the same relay, open once."""
    view = rent(make_yard(), tenant=tenant)
    Instance.objects.filter(pk=view.id).update(
        state="ready", pod_uid="other", cluster_id=day.view.cluster_id
    )
    key(view)
    entry.tried(view.id, error="")
    return view


def test_several_renters_at_once_are_ours_and_staff_are_called(day) -> None:
    theirs = beside(day)
    fail(theirs)
    assert figures("ways_shut") == []
    fail(day.view)
    assert figures("ways_shut") == [2]
    assert not shut.is_shut(with_way(day.view))
    assert not shut.is_shut(with_way(theirs))
    day.full_list(20)
    assert day.state() == "ready"
    # The other is open again: what stays shut is one renter's.
    entry.tried(theirs.id, error="")
    assert figures("ways_shut") == []
    day.full_list(30)
    assert row_of(day.view).reason == "ssh_down"
    # What was said stays said until it is entered, whoever follows.
    fail(theirs)
    day.full_list(40)
    assert row_of(day.view).reason == "ssh_down"


def with_way(view: InstanceView) -> Instance:
    return Instance.objects.select_related("way_in").get(pk=view.id)


def test_two_machines_of_one_renter_are_no_incident(day) -> None:
    fail(beside(day, tenant=day.view.tenant_ref))
    fail(day.view)
    assert figures("ways_shut") == []
    assert shut.is_shut(with_way(day.view))


def test_a_relay_that_is_silent_is_told_while_there_are_machines(day) -> None:
    assert figures("relay_silence") == []  # it never had one
    seen = day.at(100)
    Cluster.objects.update(relay_seen_at=seen)
    day.at(100 + timedelta(minutes=7).total_seconds())
    assert figures("relay_silence") == [420.0]
    Instance.objects.update(state="gone", gone_at=clock.now())
    assert figures("relay_silence") == []
