"""A volume's money from its making to its receipt: exact, and against a count of its own.

As in the other flows only the cluster's API is replaced; clocks and loops are the platform's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import F

from billing import facade as billing
from billing.facade import reconciliation
from kernel.ids import parse
from kernel.money import parse_micro
from marketplace.models import AuditEntry, Volume, VolumeMeter
from marketplace.rentals.reconcile import reconcile
from provisioner.models import DiskInterval, Node
from provisioner.models import Volume as Disk
from tests.flows.stage import NOON, Platform, act, rent, show
from tests.market import USD, Renter, Supply, make_renter, make_supply

pytestmark = pytest.mark.django_db

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
START, FULL = NOON + 50 * MINUTE, NOON + HOUR
PRICE = USD // 10  # per GiB and month
SMALL, LARGE = 365, 730  # 0.05 and 0.10 USD per hour
STEP = timedelta(seconds=50)  # between two lists; a minute without one ends what is proven


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [START.isoformat()])
    made = make_supply(4, storage="cluster")
    path = f"/provider/offers/{made.offer.public_id}"
    status, offer = made.owner.call("PATCH", path, {"disk_price": "0.1000"})
    assert (status, offer["disk_price"]) == (200, "0.1000")
    return made


def volume_of(renter: Renter, volume: str) -> dict[str, Any]:
    return dict(renter.call("GET", f"/volumes/{volume}")[1])


def lines(volume: str) -> list[tuple[datetime, datetime, int, int, int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT from_ts, to_ts, disk_gib, amount_micro, provider_micro, fee_micro"
            " FROM facts.disk_usage WHERE volume_id = %s ORDER BY from_ts",
            [parse("volume", volume)],
        )
        return list(cursor.fetchall())


def owed(seconds: int, gib: int) -> int:
    """One size of a disk, counted anew: the price by the hour first, as it was held and shown."""
    return floor(Fraction(floor(Fraction(PRICE * gib, 730)) * seconds, 3600))


def until(platform: Platform, moment: datetime) -> None:
    while platform.moment < moment:
        platform.at(min(moment, platform.moment + STEP))
        platform.turn()


def make(renter: Renter, supply: Supply, **changes: Any) -> dict[str, Any]:
    body = {"name": "data", "size_gib": SMALL, "datacenter": supply.datacenter.public_id}
    status, volume = renter.call("POST", "/volumes", body | changes)
    assert status == 202, volume
    return dict(volume)


def delete(renter: Renter, volume: str) -> None:
    token = renter.call("DELETE", f"/volumes/{volume}")[1]["confirm_token"]
    assert renter.call("DELETE", f"/volumes/{volume}?confirm_token={token}")[0] == 202


@pytest.fixture
def started(platform: Platform) -> Platform:
    platform.at(START)
    platform.turn()
    return platform


def test_from_its_making_to_its_receipt_every_second_is_charged_once(started, renter, supply):
    platform: Platform = started
    # Made with the machine; what it costs is said before, and held with the first hour.
    given = {"offer": supply.offer.public_id, "gpus": 2, "volume": {"size_gib": SMALL}}
    quote = renter.call("POST", "/quotes", given)[1]
    assert (quote["total_per_hour"], quote["stopped_per_day"]) == ("4.0500", "1.2000")
    before = billing.balance(org_ref=renter.org)
    budget = {"amount": "100", "thresholds": [{"percent": 100, "action": "notify"}]}
    assert renter.call("POST", "/budgets", budget)[0] == 201
    rental = rent(renter, supply, volumes=[{"size_gib": SMALL, "mount": "/data"}])
    volume = show(renter, rental)["volumes"][0]["volume"]
    assert billing.balance(org_ref=renter.org).held_micro == 4 * USD + 50_000
    platform.turn()
    assert volume_of(renter, volume)["per_hour"] == "0.0000", "it is not there yet"
    until(platform, START + MINUTE)
    platform.cluster.bind()
    platform.cluster.run(platform.moment, cards=2)
    until(platform, START + 3 * MINUTE)
    shown = show(renter, rental)
    assert shown["state"] == "running"
    assert [item["kind"] for item in shown["continuing_charges"]["items"]] == ["gpu", "disk"]
    assert shown["continuing_charges"]["per_hour"] == "4.0500"
    assert billing.balance(org_ref=renter.org).burn_micro_h == 4 * USD + 50_000
    bound = datetime.fromisoformat(volume_of(renter, volume)["bound_at"])

    # Stopped: the cards cost nothing any more, the disk what it always did, and the answer says so.
    stopping = act(renter, rental, "stop")[1]
    assert stopping["continuing_charges"] == {
        "per_hour": "0.0500",
        "currency": "USD",
        "items": [{"kind": "disk", "volume": volume, "per_hour": "0.0500"}],
    }
    until(platform, FULL + 7 * MINUTE)
    first = owed(int((FULL - bound).total_seconds()), SMALL)
    assert [line[:4] for line in lines(volume)] == [(bound, FULL, SMALL, first)]

    # Dark: free from the last sign of life to the next.
    dark = platform.moment
    platform.cluster.down = True
    until(platform, dark + 4 * MINUTE)
    assert show(renter, rental)["continuing_charges"]["per_hour"] == "0.0000"
    assert billing.balance(org_ref=renter.org).burn_micro_h == 0
    platform.cluster.down = False
    until(platform, dark + 7 * MINUTE)
    gone, back = DiskInterval.objects.order_by("opened_at")
    assert (gone.good_until, gone.close_reason) == (dark, "unreachable")
    assert dark + 4 * MINUTE < back.opened_at <= dark + 4 * MINUTE + 2 * STEP

    # Larger: another price from when it is there, and the old hold comes back.
    assert renter.call("PATCH", f"/volumes/{volume}", {"size_gib": LARGE})[0] == 200
    platform.turn()
    assert volume_of(renter, volume)["per_hour"] == "0.0500", "it is not larger yet"
    platform.cluster.bind()
    until(platform, platform.moment + 2 * MINUTE)
    assert volume_of(renter, volume)["per_hour"] == "0.1000"
    old, new = VolumeMeter.objects.order_by("size_gib")
    assert old.settled_at is not None
    grown = DiskInterval.objects.get(meter=new.id).opened_at

    # A price of today is not one of yesterday.
    path = f"/provider/offers/{supply.offer.public_id}"
    assert supply.owner.call("PATCH", path, {"disk_price": "5.0000"})[0] == 200
    until(platform, platform.moment + 2 * MINUTE)
    asked = platform.moment + timedelta(seconds=7)
    platform.at(asked)
    delete(renter, volume)
    until(platform, asked + 3 * MINUTE)
    renter.call("DELETE", f"/rentals/{rental}")
    until(platform, platform.moment + 2 * MINUTE)
    assert volume_of(renter, volume)["state"] == "deleted"

    # The count: no gap and nothing twice in what is proven, and nothing outside it.
    found = lines(volume)
    proven = [(bound, dark), (back.opened_at, grown), (grown, asked - timedelta(seconds=7))]
    assert _joined([(line[0], line[1]) for line in found]) == _joined(proven)
    total = 0
    for gib in (SMALL, LARGE):
        part = [line for line in found if line[2] == gib]
        seconds = sum(int((line[1] - line[0]).total_seconds()) for line in part)
        share = floor(Fraction(PRICE * gib, 730)) * (10_000 - settings.GPUYARD_FEE_BPS) // 10_000
        assert sum(line[3] for line in part) == owed(seconds, gib)
        assert sum(line[4] for line in part) == floor(Fraction(share * seconds, 3600))
        total += owed(seconds, gib)
    assert all(line[3] == line[4] + line[5] for line in found)
    assert parse_micro(volume_of(renter, volume)["spent"]) == total
    charges = renter.call("GET", f"/volumes/{volume}/charges?limit=100")[1]["items"]
    assert [parse_micro(one["amount"]) for one in charges] == [line[3] for line in found]
    for one in charges:
        assert (one["kind"], one["volume"], one["rental"]) == ("disk", volume, None)
        shown = renter.call("GET", f"/charges/{one['id']}/evidence")[1]
        assert (shown["volume"], shown["unproven_seconds"]) == (volume, 0), shown
        assert shown["observations"]
    theirs = make_renter("Other")
    assert theirs.call("GET", f"/charges/{charges[0]['id']}/evidence")[0] == 404
    (used,) = renter.call("GET", "/billing/usage?group_by=volume")[1]["items"]
    assert (used["volume"], used["size_gib"]) == (volume, LARGE)
    ref = parse("rental", rental)
    after = billing.balance(org_ref=renter.org)
    assert after.held_micro == 0
    spent = total + billing.spent(rental_refs=[ref])[ref]
    assert before.available_micro - after.available_micro == spent
    (budgeted,) = renter.call("GET", "/budgets")[1]["items"]
    assert parse_micro(budgeted["spent"]) == spent, "a budget counts disks"
    assert billing.books().balanced

    # And at night charges and proof agree, until a row is made to say something else.
    platform.at(platform.moment + 3 * HOUR)
    assert reconcile(full=True) == 0
    shorter = F("good_until") - timedelta(seconds=5)
    DiskInterval.objects.filter(id=back.id).update(good_until=shorter)
    assert reconcile(full=True) == 1
    (named,) = reconciliation.breaks(state="open")
    assert (named.subject, named.amount) == (f"disk:{old.id}", 5)
    assert "charged and not proven" in named.text


def _joined(stretches: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Stretches that touch as one; those that overlap stay and are seen."""
    whole: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(stretches):
        joined = bool(whole) and whole[-1][1] == begin
        whole.append((whole.pop()[0] if joined else begin, end))
    return whole


def test_a_volume_that_nobody_can_pay_for_is_not_made(supply):
    poor = make_renter("Poor", credit=USD // 100)
    body = {"name": "data", "size_gib": SMALL, "datacenter": supply.datacenter.public_id}
    status, problem = poor.call("POST", "/volumes", body)
    assert (status, problem["type"]) == (402, "/problems/insufficient_funds")
    assert problem["needed"] == "0.0500"
    assert not Volume.objects.exists()


def test_what_was_free_when_it_was_made_stays_free_and_owners_set_the_price(
    started, renter, supply
):
    path = f"/provider/offers/{supply.offer.public_id}"
    assert supply.owner.call("PATCH", path, {"disk_price": "0"})[0] == 200
    free = make(renter, supply)
    assert supply.owner.call("PATCH", path, {"disk_price": "0.2000"})[0] == 200
    assert supply.owner.call("PATCH", path, {"disk_price": "100.0001"})[0] == 422
    assert renter.call("GET", f"/offers/{supply.offer.public_id}")[1]["disk_price"] == "0.2000"
    changes = AuditEntry.objects.filter(action="datacenter.disk_price").order_by("id")
    said = [(row.details["from"], row.details["to"]) for row in changes][1:]
    assert said == [("0.1000", "0.0000"), ("0.0000", "0.2000")]
    assert {row.details["for_volumes_made_from"] for row in changes} == {"2026-03-01T12:50:00Z"}
    dear = make(renter, supply)
    assert (free["disk_price"], dear["disk_price"]) == ("0.0000", "0.2000")
    started.turn()
    started.cluster.bind()
    until(started, START + 4 * MINUTE)
    assert [volume_of(renter, one["id"])["per_hour"] for one in (free, dear)] == [
        "0.0000",
        "0.1000",
    ]
    delete(renter, free["id"])
    delete(renter, dear["id"])
    until(started, START + 5 * MINUTE)
    assert [bool(lines(one["id"])) for one in (free, dear)] == [False, True]


def test_a_claim_that_vanished_is_charged_to_the_last_look_that_showed_it(started, renter, supply):
    volume = make(renter, supply)["id"]
    started.turn()
    started.cluster.bind()
    until(started, START + 3 * MINUTE)
    seen = Disk.objects.get().seen_at
    started.cluster.claims.clear()
    until(started, START + 9 * MINUTE)
    assert volume_of(renter, volume)["state"] == "lost"
    ended = DiskInterval.objects.get()
    assert ended.close_reason == "lost"
    assert seen is not None
    assert ended.good_until is not None
    assert ended.good_until == max(seen, ended.opened_at)
    assert all(line[1] <= ended.good_until for line in lines(volume))
    assert billing.balance(org_ref=renter.org).held_micro == 0


def test_one_that_was_never_there_costs_nothing(started, renter, supply):
    before = billing.balance(org_ref=renter.org)
    volume = make(renter, supply)["id"]
    until(started, START + 3 * MINUTE)
    delete(renter, volume)
    until(started, START + 5 * MINUTE)
    assert lines(volume) == []
    after = billing.balance(org_ref=renter.org)
    assert (after.available_micro, after.held_micro) == (before.available_micro, 0)


def test_data_on_a_machine_is_free_while_that_machine_is_not_ready(started, renter, supply):
    for row in (supply.cluster, supply.group):
        type(row).objects.filter(pk=row.pk).update(storage_domain="node")
    volume = make(renter, supply)["id"]
    started.turn()
    started.cluster.bind(Node.objects.get().name)
    until(started, START + 3 * MINUTE)
    assert Disk.objects.get().node_id is not None
    assert volume_of(renter, volume)["per_hour"] == "0.0500"
    Node.objects.update(ready=False)
    dark = started.moment
    until(started, dark + 3 * MINUTE)
    assert volume_of(renter, volume)["per_hour"] == "0.0000"
    Node.objects.update(ready=True)
    until(started, dark + 5 * MINUTE)
    gone, back = DiskInterval.objects.order_by("opened_at")
    assert (gone.good_until, back.opened_at) == (dark, dark + 3 * MINUTE + STEP)
    assert volume_of(renter, volume)["per_hour"] == "0.0500"
