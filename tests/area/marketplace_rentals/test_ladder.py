"""The funds ladder with rows: told in time, stopped at zero, kept a week, deleted then."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing import facade as billing
from billing.facade import funds
from kernel.ids import parse
from marketplace.models import AuditEntry, EmailToken, FundsWatch, Volume, WebhookEvent
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import ladder
from provisioner.models import Volume as Row
from provisioner.volumes.receipt import Absence
from provisioner.volumes.receipt import finish as finish_volume
from tests.area.marketplace_portal.visitors import Visitor, visitor_of
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock  # noqa: F401
from tests.market import USD, add_credit, make_renter, make_supply, order

pytestmark = pytest.mark.django_db


def rented(clock: Clock, *, credit: int) -> World:  # noqa: F811
    renter, supply = make_renter(credit=credit), make_supply(2, storage="cluster")
    hook = {"url": "https://93.184.215.14/hook", "event_types": ["balance.*"]}
    assert renter.call("POST", "/webhooks", hook)[0] == 201
    body = order(supply.offer, max_hours=..., no_limit=True)
    body["volumes"] = [{"size_gib": 30, "mount": "/data"}]
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run()
    following.follow()
    return world


def said() -> list[str]:
    rows = EmailToken.objects.filter(purpose="money").order_by("id")
    return [about.partition("\n")[0] for about in rows.values_list("about", flat=True)]


def told() -> list[dict[str, Any]]:
    rows = WebhookEvent.objects.order_by("id")
    return [{"type": row.type, **json.loads(row.body)["data"]["object"]} for row in rows]


def at(world: World, **after: float) -> None:
    """Charge up to then and look at the money, as the loops do."""
    world.seen(NOON + timedelta(**after))
    charging.charge()
    charging.funds()
    ladder.run()


def emptied(world: World) -> None:
    """Until the money has ended and the machine is gone."""
    at(world, minutes=61)
    at(world, minutes=90)
    world.gone(NOON + timedelta(minutes=90, seconds=2))
    following.follow()
    ladder.run()


def test_forecasts_at_72_24_and_1_hours_each_told_once(clock):  # noqa: F811
    world = rented(clock, credit=160 * USD)  # 80 hours
    ends = NOON + timedelta(hours=80)
    assert (
        funds.ends()[world.renter.org]
        == ends
        == billing.balance(org_ref=world.renter.org).funds_end_at
    )
    for hour in (1, 7, 8, 9, 55, 56, 57, 78, 79):
        at(world, hours=hour)
        ladder.run()
    lasts = "Your balance lasts about"
    assert said() == [f"{lasts} 72 hours", f"{lasts} 24 hours", f"{lasts} an hour"]
    assert [(row["type"], row["hours"]) for row in told()] == [
        ("balance.low", 72),
        ("balance.low", 24),
        ("balance.low", 1),
    ]
    assert {row["funds_end_at"] for row in told()} == {"2026-03-04T20:00:00Z"}
    add_credit(world.renter.org, 200 * USD)
    ladder.run()
    assert FundsWatch.objects.get().told_hours is None
    assert len(said()) == 3


def test_it_deletes_data_at_zero_balance_never(clock):  # noqa: F811
    """The known failure of others: zero stops, and only an announced week later deletes."""
    world = rented(clock, credit=3 * USD)
    emptied(world)
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("stopped", "funds")
    (volume,) = Volume.objects.all()
    assert volume.removed_at is None
    assert said()[-1] == "Your balance is used up: rentals were stopped, data is kept"
    assert told()[-1]["type"] == "balance.empty"
    assert told()[-1]["grace_until"] == "2026-03-08T13:30:00Z"
    for days in (1, 3, 5, 6):
        at(world, days=days)
    assert world.show()["state"] == "stopped"
    assert "Last day" not in said()[-1]
    at(world, days=6, hours=2)
    assert said()[-1].startswith("Last day")
    at(world, days=7, minutes=89)
    volume.refresh_from_db()
    assert (world.show()["state"], volume.removed_at) == ("stopped", None)

    at(world, days=7, minutes=91)
    shown = world.show()
    assert (shown["state"], shown["reason"], shown["fault"]) == (
        "terminated", "funds_grace_over", "funds"
    )  # fmt: skip
    path = f"/volumes/{volume.public_id}"
    gone = world.renter.call("GET", path)[1]
    assert (gone["state"], gone["reason"]) == ("deleting", "funds_grace_over")
    row = Row.objects.select_related("namespace").get(pk=parse("volume", gone["id"]))
    present = NOON + timedelta(days=8)
    assert finish_volume(row, Absence(present, "77", 0), at=present, claim=None)
    proof = world.renter.call("GET", f"{path}/receipt")[1]
    assert proof["content"]["delete_reason"] == "funds_grace_over"
    assert AuditEntry.objects.filter(action="volume.delete.funds_grace_over").count() == 1
    assert said()[-1] == "Stopped rentals and their volumes were deleted"
    assert FundsWatch.objects.get().grace_until is None
    count = len(said())
    at(world, days=9)
    assert len(said()) == count


def test_a_top_up_in_time_ends_the_grace_and_keeps_everything(clock):  # noqa: F811
    world = rented(clock, credit=3 * USD)
    emptied(world)
    at(world, days=6, hours=2)
    add_credit(world.renter.org, 5 * USD)
    at(world, days=6, hours=3)
    assert FundsWatch.objects.get().grace_until is None
    at(world, days=30)
    assert world.show()["state"] == "stopped"
    assert Volume.objects.get().removed_at is None


def test_after_a_week_of_ours_away_the_warning_comes_before_the_deletion(clock):  # noqa: F811
    world = rented(clock, credit=3 * USD)
    emptied(world)
    at(world, days=20)
    assert said()[-1].startswith("Last day")
    assert world.show()["state"] == "stopped"
    at(world, days=20, hours=23)
    assert world.show()["state"] == "stopped"
    at(world, days=21)
    assert world.show()["state"] == "terminated"


def test_the_portal_says_how_the_money_stands(clock):  # noqa: F811
    world = rented(clock, credit=3 * USD)
    visitor: Visitor = visitor_of(world.renter)
    add_credit(world.renter.org, 500 * USD)
    assert "Your balance" not in visitor.get("/billing").text
    world.clock.set(NOON + timedelta(hours=200))
    assert "Your balance lasts until" in visitor.get("/billing").text
    at(world, hours=260)
    world.gone(NOON + timedelta(hours=260, seconds=2))
    following.follow()
    ladder.run()
    assert "Your balance is used up" in visitor.get("/billing").text


def test_what_no_balance_covered_is_shown_beside_the_line_and_not_charged(clock):  # noqa: F811
    """Charged late: two hours at two dollars from three of credit."""
    world = rented(clock, credit=3 * USD)
    world.seen(NOON + timedelta(hours=2))
    charging.charge()
    world.renter.call("POST", f"{world.path}/actions", {"action": "stop"})
    world.gone(NOON + timedelta(hours=2, seconds=2))
    following.follow()
    charging.charge()
    status, page = world.renter.call("GET", f"{world.path}/charges")
    assert status == 200
    lines = page["items"]
    left = sum(Decimal(line["amount"]) - Decimal(line["not_charged"]) for line in lines)
    assert left == Decimal(world.show()["spent"])
    (short,) = [line for line in lines if Decimal(line["not_charged"])]
    visitor: Visitor = visitor_of(world.renter)
    assert "of it not charged: no balance was left" in visitor.get(world.path).text
    evidence = visitor.get(f"/charges/{short['id']}").text
    assert "which no balance covered: we bear it" in evidence
