"""Probation ends by good starts in a row, or by time; a host's fault begins the count anew."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel import clock
from provisioner.clusters import probation, views
from provisioner.clusters.probation import PROBATION
from provisioner.facade import supply
from provisioner.models import Cluster, Instance
from tests.area.provisioner.yard import Yard, make_yard, rent

pytestmark = pytest.mark.django_db


@pytest.fixture
def yard() -> Yard:
    return make_yard(nodes=1, cards=8, namespaces=8, probation_from=clock.now() - timedelta(days=1))


def renewed() -> bool:
    row = Cluster.objects.get()
    probation.renew(row, at=clock.now())
    return Cluster.objects.get().probation_ended_at is not None


def left() -> int:
    return views.clusters()[0].joining.starts_left


def start(yard: Yard, number: int, fault: str = "") -> None:
    """As many machines that became ready, or that their host failed."""
    first = rent(yard)
    row = Instance.objects.get(pk=first.id)
    ready = None if fault else clock.now()
    Instance.objects.filter(pk=row.pk).update(ready_at=ready, end_fault=fault)
    if number > 1:
        start(yard, number - 1, fault)


def test_good_starts_in_a_row_end_it(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probation, "PROBATION", probation.Terms(3, PROBATION.time))
    assert (left(), supply.on_probation()) == (3, [yard.cluster.pk])
    start(yard, 2)
    assert (left(), renewed()) == (1, False)
    start(yard, 1, fault="host")
    assert (left(), renewed()) == (3, False)
    start(yard, 3)
    assert (left(), renewed()) == (0, True)
    assert supply.on_probation() == []
    start(yard, 1, fault="host")
    assert renewed()  # once is for good


def test_time_ends_it(yard: Yard) -> None:
    assert not renewed()
    Cluster.objects.update(probation_from=clock.now() - PROBATION.time)
    assert renewed()


def test_a_cluster_from_before_has_none(yard: Yard) -> None:
    Cluster.objects.update(probation_from=None)
    assert not renewed()
    assert (left(), supply.on_probation()) == (0, [])
