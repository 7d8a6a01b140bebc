"""A partner's cluster is dark for a week: nothing of it is charged, and the others notice nothing.

Virtual time. What the darkness costs others in real time is measured with real connections by
bench/dark_cluster.py.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel.ids import parse
from provisioner.models import Hold, Instance, ReadyInterval
from tests.flows.stage import NOON, Platform, act, rent, show
from tests.flows.test_whole_life import charged
from tests.market import Renter, Supply, make_supply

pytestmark = pytest.mark.django_db

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# What is looked at closely of each day; between two such stretches the platform itself is away.
WATCHED = 2 * MINUTE


def test_nothing_of_a_dark_week_is_charged(platform: Platform, renter: Renter, supply: Supply):
    other = make_supply(4, owner=supply.owner, region="other")
    light = platform.add(other.cluster)
    dark_rental = rent(renter, supply, max_hours=400)
    light_rental = rent(renter, other, max_hours=400)
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    light.run(platform.moment, cards=2)
    platform.until(NOON + 3 * MINUTE)
    assert {show(renter, each)["state"] for each in (dark_rental, light_rental)} == {"running"}
    platform.cluster.down = True
    last_proof = _last_positive(dark_rental)
    platform.until(NOON + 5 * MINUTE)
    assert show(renter, dark_rental)["state"] == "unreachable"
    for day in range(1, 8):
        platform.at(NOON + day * DAY)
        platform.until(platform.moment + WATCHED)
        assert show(renter, light_rental)["state"] == "running"
    lost = show(renter, dark_rental)
    assert (lost["state"], lost["reason"]) == ("failed", "host_lost")
    assert lost["actions"] == ["extend", "terminate"], "it may still run over there"
    _ends_at(dark_rental, last_proof)

    platform.cluster.down = False
    act(renter, light_rental, "terminate")
    platform.until(platform.moment + 5 * MINUTE)
    days = {int(end // DAY.total_seconds()) for _, end in charged(light_rental)}
    assert days == set(range(8)), "the other was charged on each of the days"
    assert platform.cluster.pods == {}, "given up, so it goes as soon as it is seen again"
    assert not Hold.objects.filter(rental_ref=parse("rental", dark_rental), to_ts=None).exists()
    assert "retry" in show(renter, dark_rental)["actions"]
    _ends_at(dark_rental, last_proof)
    assert act(renter, dark_rental, "terminate")[0] in (200, 202)


def test_back_within_its_grace_the_machine_is_found_and_the_gap_is_free(
    platform: Platform, renter: Renter, supply: Supply
):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + 3 * MINUTE)
    platform.cluster.down = True
    last_proof = _last_positive(rental)
    platform.until(NOON + 8 * MINUTE)
    platform.cluster.down = False
    platform.until(NOON + 11 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    assert platform.cluster.created == 1, "the same machine"
    act(renter, rental, "terminate")
    platform.until(NOON + 13 * MINUTE)
    gap = [line for line in charged(rental) if line[0] < 8 * 60 and line[1] > last_proof]
    assert gap == [], "not a second between the last proof and the return"
    assert max(end for _, end in charged(rental)) > 8 * 60


def _last_positive(rental: str) -> float:
    """Seconds from noon to the last full list of the rental's cluster."""
    row = Instance.objects.select_related("cluster").get(rental_ref=parse("rental", rental))
    assert row.cluster.last_positive_at is not None
    return (row.cluster.last_positive_at - NOON).total_seconds()


def _ends_at(rental: str, proof: float) -> None:
    """Its meter is closed where it was last proven, and no window reaches further."""
    intervals = ReadyInterval.objects.filter(rental_ref=parse("rental", rental))
    ends = {(row.good_until - NOON).total_seconds() for row in intervals if row.good_until}
    assert ends == {proof}
    assert max(end for _, end in charged(rental)) == int(proof)
