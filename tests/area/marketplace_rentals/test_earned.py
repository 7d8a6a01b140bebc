"""Earnings per card and day: worked out by hand, and equal to the ledger's to the micro-unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing.facade import payouts as billing
from kernel.ids import public
from kernel.money import parse_micro
from marketplace.models import Provider
from marketplace.providers.earned import By, earned
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from provisioner.contracts import Fault
from provisioner.instances import release
from provisioner.models import Hold, Instance, Slot
from tests.area.marketplace_rentals.test_life import Clock, World, clock
from tests.market import H100, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
__all__ = ["clock"]  # a fixture

LATE = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
PRICE = 1_000_001


@pytest.fixture
def three(clock: Clock) -> World:
    """Three cards on a node, listed at 20:00, all rented together; the owner gets all of it."""
    clock.set(datetime(2026, 3, 1, 20, tzinfo=UTC))
    renter, supply = make_renter(), make_supply(3, price=PRICE)
    Provider.objects.filter(pk=supply.provider.pk).update(fee_bps=0)
    clock.set(LATE)
    rental = renter.call("POST", "/rentals", order(supply.offer, 3, max_hours=48))[1]
    return World(clock, renter, supply, f"/rentals/{rental['id']}")


def ran(world: World, minutes: int) -> None:
    """Run from half past ten for that long, and be gone and charged."""
    world.run(LATE)
    until = LATE + timedelta(minutes=minutes)
    world.seen(until)
    following.follow()
    world.renter.call("POST", f"{world.path}/actions", {"action": "stop"})
    world.gone(until)
    charging.charge()


def ask(world: World, by: str, first: str = "2026-03-01", last: str = "2026-03-02") -> Any:
    path = f"/provider/earnings?from={first}&to={last}&group_by={by}"
    status, shown = world.supply.owner.call("GET", path)
    assert status == 200, shown
    return shown


def test_the_case_by_hand(three: World) -> None:
    ran(three, 160)
    # 3 cards x 1.000001 = 3.000003 an hour, of which nothing is the platform's.
    # Until midnight 5,400 s: floor(3,000,003 x 1.5)     = 4,500,004
    # In all          9,600 s: 3,000,003 x 9,600 / 3,600 = 8,000,008, so after it 3,500,004
    # By card: 4,500,004 = 3 x 1,500,001 + 1; 3,500,004 = 3 x 1,166,668.
    rows = ask(three, "gpu,day")["rows"]
    assert [(row["day"], row["number"], row["share"], row["unit_seconds"]) for row in rows] == [
        ("2026-03-01", 0, "1.500002", 5400),
        ("2026-03-01", 1, "1.500001", 5400),
        ("2026-03-01", 2, "1.500001", 5400),
        ("2026-03-02", 0, "1.166668", 4200),
        ("2026-03-02", 1, "1.166668", 4200),
        ("2026-03-02", 2, "1.166668", 4200),
    ]
    # There from 20:00: four hours of the first day; of the second the 70 minutes until now.
    assert [row["there_seconds"] for row in rows] == [14400] * 3 + [4200] * 3
    assert [row["occupancy"] for row in rows] == ["0.3750"] * 3 + ["1.0000"] * 3
    node = Slot.objects.select_related("share__node").first().share.node  # type: ignore[union-attr]
    for row in rows:
        assert (row["kind"], row["accelerator"]) == ("gpu", H100)
        assert row["offer"] == three.supply.offer.public_id
        assert row["cluster"] == public("cluster", three.supply.cluster.pk)
        assert (row["node"], row["node_name"]) == (public("node", node.pk), node.name)
    assert {row["slot"] for row in rows} == {public("slot", s.pk) for s in Slot.objects.all()}


def test_by_day_by_offer_and_by_card_are_the_same_money(three: World) -> None:
    ran(three, 160)
    by_day = ask(three, "day")["rows"]
    assert [(row["day"], row["share"], row["slot"], row["offer"]) for row in by_day] == [
        ("2026-03-01", "4.500004", None, None), ("2026-03-02", "3.500004", None, None)
    ]  # fmt: skip
    assert [row["unit_seconds"] for row in by_day] == [16200, 12600]
    (offer,) = ask(three, "offer")["rows"]
    assert (offer["day"], offer["offer"]) == (None, three.supply.offer.public_id)
    # 28,800 card-seconds of 3 x (14,400 + 4,200).
    assert (offer["share"], offer["occupancy"]) == ("8.000008", "0.5161")
    cards = ask(three, "gpu")["rows"]
    assert [row["share"] for row in cards] == ["2.66667", "2.666669", "2.666669"]
    (first,) = ask(three, "offer,day", last="2026-03-01")["rows"]
    assert (first["day"], first["share"]) == ("2026-03-01", "4.500004")


def test_the_rows_of_a_month_are_the_shares_of_its_statement(three: World) -> None:
    ran(three, 160)
    other = make_supply(2, price=777_777, owner=three.supply.owner)
    Provider.objects.update(fee_bps=1234)
    body = order(other.offer, 2, max_hours=48)
    body["requirement"]["max_price"] = "0.8"
    rental = three.renter.call("POST", "/rentals", body)[1]
    second = World(three.clock, three.renter, other, f"/rentals/{rental['id']}")
    begin = MIDNIGHT + timedelta(hours=3, seconds=17)
    second.run(begin)
    second.seen(begin + timedelta(hours=5, seconds=1))
    charging.charge()
    rows = ask(three, "gpu,day", last="2026-03-31")["rows"]
    status, statement = three.supply.owner.call("GET", "/provider/statements/2026-03")
    assert status == 200
    total = sum(parse_micro(row["share"]) for row in rows)
    assert total == parse_micro(statement["shares"]) > 8_000_008
    days = ask(three, "day", last="2026-03-31")
    for day in days["rows"]:
        of_day = [row for row in rows if row["day"] == day["day"]]
        assert sum(parse_micro(row["share"]) for row in of_day) == parse_micro(day["share"])
        known = [row for row in days["days"] if row["day"] == day["day"]]
        assert parse_micro(day["share"]) == sum(parse_micro(row["share"]) for row in known)
    assert len({row["slot"] for row in rows}) == 5


def test_a_restart_pays_the_same_cards_and_a_card_that_was_not_rented_shows_nothing(
    clock: Clock,
) -> None:
    clock.set(datetime(2026, 3, 1, 20, tzinfo=UTC))
    renter, supply = make_renter(), make_supply(2, price=3_600_000)
    Provider.objects.filter(pk=supply.provider.pk).update(fee_bps=0)
    clock.set(LATE)
    rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=48))[1]
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run(LATE)
    world.seen(LATE + timedelta(minutes=10))
    with transaction.atomic():
        release.request_restart(
            rental_ref=world.rental.id, reason="restarted_by_user", fault=Fault.NONE
        )
    world.gone(LATE + timedelta(minutes=10))
    after = Instance.objects.get(rental_ref=world.rental.id, successor_id=None, gone_at=None)
    held = Hold.objects.get(instance=after).slot
    charging.charge()
    rows = ask(world, "gpu", last="2026-03-01")["rows"]
    # A thousand micro-units a second, ten minutes.
    assert {row["slot"]: Decimal(row["share"]) for row in rows} == {
        public("slot", slot.pk): Decimal("0.6") if slot.pk == held.pk else Decimal(0)
        for slot in Slot.objects.all()
    }
    idle = next(row for row in rows if Decimal(row["share"]) == 0)
    assert (idle["unit_seconds"], idle["occupancy"]) == (0, "0.0000")


def test_what_no_card_explains_is_a_row_of_its_own(three: World) -> None:
    ran(three, 30)
    Hold.objects.all().delete()
    rows = ask(three, "gpu", last="2026-03-01")["rows"]
    lost = [row for row in rows if row["slot"] is None]
    assert [(row["share"], row["unit_seconds"], row["offer"]) for row in lost] == [
        ("1.500001", 5400, None)
    ]
    assert all(Decimal(row["share"]) == 0 for row in rows if row["slot"])


def test_another_owners_cards_are_not_there(three: World) -> None:
    ran(three, 60)
    stranger = make_supply(1).owner
    three.clock.set(LATE + timedelta(hours=2))
    path = "/provider/earnings?from=2026-03-01&to=2026-03-02&group_by=gpu"
    (row,) = stranger.call("GET", path)[1]["rows"]
    assert (row["share"], row["unit_seconds"], row["there_seconds"]) == ("0.0000", 0, 3600)


@pytest.mark.parametrize("by", ["card", "gpu,offer", "gpu,gpu", "", "day,", "GPU"])
def test_what_is_no_grouping_is_refused(three: World, by: str) -> None:
    status, problem = three.supply.owner.call("GET", f"/provider/earnings?group_by={by}")
    assert (status, problem["filter"]) == (400, "group_by")


def test_it_takes_as_many_statements_for_many_cards_as_for_few(three: World) -> None:
    ran(three, 30)
    provider = three.supply.provider
    span = {"from_at": LATE - timedelta(days=3), "to_at": LATE + timedelta(days=3)}

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            earned(provider=provider, by=frozenset({By.GPU, By.DAY}), **span)
        return len(captured)

    few = statements()
    make_supply(8, owner=three.supply.owner)
    assert statements() == few
    assert billing.earned_stretches(provider_ref=provider.id, **span).count == 1


def test_without_a_grouping_there_are_no_rows(three: World) -> None:
    shown = three.supply.owner.call("GET", "/provider/earnings")[1]
    assert (shown["rows"], shown["days"]) == (None, [])
