"""Changes of the fee: for new rentals alone, with their notice, looked at on last month's use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.catalog.fees import fee_of
from marketplace.models import AuditEntry, EmailToken, FeeChange, Provider, Rental
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock
from tests.market import H100, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
__all__ = ["clock"]  # a fixture

PRICE = 1_000_001
LOWER: dict[str, Any] = {"fee_bps": 1234, "reason": "more cards"}


@pytest.fixture
def staff(clock: Clock) -> Api:
    return people.api_of(people.staff())


def after(days: float) -> str:
    return (NOON + timedelta(days=days)).isoformat()


def told() -> list[str]:
    rows = EmailToken.objects.filter(purpose=EmailToken.Purpose.MONEY).order_by("id")
    return [row.about for row in rows]


def test_last_month_by_hand(staff: Api, clock: Clock) -> None:
    """Two cards for 160 minutes from half past ten on the last evening of February."""
    late = datetime(2026, 2, 28, 22, 30, tzinfo=UTC)
    clock.set(late)
    renter, supply = make_renter(), make_supply(2, price=PRICE)
    other = make_supply(2, price=PRICE, region="us-east", ownership="owned")
    for one in (supply, other):
        body = order(one.offer, 2, max_hours=48)
        rental = renter.call("POST", "/rentals", body)[1]
        world = World(clock, renter, one, f"/rentals/{rental['id']}")
        world.run(late)
        world.seen(late + timedelta(minutes=160))
        following.follow()
        renter.call("POST", f"{world.path}/actions", {"action": "stop"})
        world.gone(late + timedelta(minutes=160))
        clock.set(late)
    clock.set(late + timedelta(minutes=160))
    charging.charge()

    # Price 2,000,002 an hour. Share at 15 %: floor(2,000,002 x 0.85) = 1,700,001 an hour;
    # at 12.34 %: floor(2,000,002 x 0.8766) = 1,753,201.
    # February, 5,400 s: 3,000,003; share floor(1,700,001 x 1.5) = 2,550,001, with it 2,629,801.
    seen = staff.post("staff/fees/preview", LOWER).data
    assert seen["total"] == {
        "amount": "3.000003",
        "share": "2.550001",
        "share_with": "2.629801",
        "fee": "0.450002",
        "fee_with": "0.370202",
        "difference": "-0.0798",
    }
    (row,) = seen["providers"]  # not the platform's own cards
    assert row["provider"] == supply.provider.public_id
    assert {name: row[name] for name in seen["total"]} == seen["total"]
    # March, until 9,600 s in all: 5,333,338 - 3,000,003; floor(1,700,001 x 9,600 / 3,600) =
    # 4,533,336 less what February had; with it 4,675,202 less 2,629,801.
    clock.set(NOON + timedelta(days=40))
    march = staff.post("staff/fees/preview", LOWER).data["total"]
    assert (march["amount"], march["share"], march["share_with"]) == (
        "2.333335", "1.983335", "2.045401"
    )  # fmt: skip
    # At the fee that it was rented with, nothing differs; and nobody was told of anything.
    same = staff.post("staff/fees/preview", {**LOWER, "fee_bps": 1500}).data["total"]
    assert (same["share_with"], same["difference"]) == (same["share"], "0.0000")
    assert (FeeChange.objects.count(), told()) == (0, [])


def test_a_preview_leaves_out_whoever_pays_something_else(staff: Api, clock: Clock) -> None:
    renter, supply = make_renter(), make_supply(2, price=PRICE)
    rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=48))[1]
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run()
    world.seen(NOON + timedelta(hours=2))
    charging.charge()
    clock.set(NOON + timedelta(days=31))
    assert len(staff.post("staff/fees/preview", LOWER).data["providers"]) == 1
    card = {**LOWER, "accelerator": "huawei"}
    assert staff.post("staff/fees/preview", card).data["providers"] == []
    Provider.objects.update(fee_bps=1000)
    assert staff.post("staff/fees/preview", LOWER).data["providers"] == []
    own = {**LOWER, "provider": supply.provider.public_id, "fee_bps": 900}
    (row,) = staff.post("staff/fees/preview", own).data["providers"]
    assert row["provider"] == supply.provider.public_id


def test_only_what_is_rented_from_then_on_pays_the_new_fee(staff: Api, clock: Clock) -> None:
    renter, supply = make_renter(), make_supply(3, price=PRICE)

    def rent() -> int:
        made = renter.call("POST", "/rentals", order(supply.offer))
        assert made[0] == 202, made
        return Rental.objects.latest("id").provider_micro_h

    assert rent() == 850_000  # floor(1,000,001 x 0.85)
    made = staff.post("staff/fees", {**LOWER, "valid_from": after(1)})
    assert (made.status_code, made.data["state"]) == (201, "coming")
    assert rent() == 850_000
    clock.set(NOON + timedelta(days=1, seconds=-500))
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    clock.set(NOON + timedelta(days=1))
    body = order(supply.offer, requirement=..., quote=quote["id"])
    assert renter.call("POST", "/rentals", body)[0] == 202
    assert Rental.objects.latest("id").provider_micro_h == 850_000  # as quoted
    renter.call("DELETE", f"/rentals/{Rental.objects.latest('id').public_id}")
    make_supply(1, price=PRICE, owner=supply.owner)
    assert rent() == 876_600  # floor(1,000,001 x 0.8766)
    first = Rental.objects.earliest("id")
    assert first.provider_micro_h == 850_000
    assert staff.get("staff/fees").data["items"][0]["state"] == "began"


def test_a_higher_fee_has_its_notice_and_a_lower_one_may_hold_at_once(
    staff: Api, clock: Clock
) -> None:
    supply = make_supply(1)
    higher = {"fee_bps": 1600, "reason": "dearer power"}
    for early in ({}, {"valid_from": after(13.99)}):
        refused = staff.post("staff/fees", {**higher, **early})
        assert refused.status_code == 422
        assert "14 days" in refused.data["errors"]["valid_from"][0]
        assert staff.post("staff/fees/preview", {**higher, **early}).status_code == 422
    assert (FeeChange.objects.count(), told()) == (0, [])
    assert staff.post("staff/fees", {**higher, "valid_from": after(14)}).status_code == 201
    assert len(told()) == 1
    assert "16 % of the price, 15 % before" in told()[0]
    assert "dearer power" in told()[0]
    seen = supply.owner.call("GET", "/provider")[1]["fees"]
    assert seen == {
        "bps": 1500,
        "cards": {},
        "coming": [
            {
                "accelerator": "",
                "from_bps": 1500,
                "to_bps": 1600,
                "valid_from": "2026-03-15T12:00:00Z",
            }
        ],
    }
    # Lower than what comes and higher than what holds: before the 15th it is a raise as well.
    assert staff.post("staff/fees", {**higher, "fee_bps": 1550}).status_code == 422
    assert staff.post("staff/fees", LOWER).status_code == 201
    assert supply.owner.call("GET", "/provider")[1]["fees"]["bps"] == 1234


def test_an_owners_own_fee_that_ends_a_cheaper_cards_is_a_raise(staff: Api) -> None:
    supply = make_supply(1)
    card = {"fee_bps": 1000, "reason": "we want these", "accelerator": H100}
    assert staff.post("staff/fees", card).status_code == 201
    own = {"fee_bps": 1200, "reason": "agreed", "provider": supply.provider.public_id}
    assert staff.post("staff/fees", own).status_code == 422
    assert staff.post("staff/fees", {**own, "fee_bps": 1000}).status_code == 201
    # Whose fee becomes another one: all cards from 15 %, these only follow once they pay the same.
    steps = staff.post("staff/fees/preview", {**own, "fee_bps": 900}).data["steps"]
    assert [(step["accelerator"], step["from_bps"], step["to_bps"]) for step in steps] == [
        ("", 1000, 900)
    ]


def test_withdrawn_before_it_holds_and_never_after(staff: Api, clock: Clock) -> None:
    make_supply(1)
    made = staff.post("staff/fees", {**LOWER, "valid_from": after(20)}).data
    assert made["actions"] == ["withdraw"]
    gone = staff.delete(f"staff/fees/{made['id']}")
    assert (gone.status_code, gone.data["state"], gone.data["actions"]) == (200, "withdrawn", [])
    assert "was withdrawn" in told()[-1]
    again = staff.delete(f"staff/fees/{made['id']}")
    assert (again.status_code, again.data["state"]) == (409, "withdrawn")
    clock.set(NOON + timedelta(days=21))
    assert fee_of(None) == 1500
    held = staff.post("staff/fees", LOWER).data
    assert staff.delete(f"staff/fees/{held['id']}").status_code == 409
    assert fee_of(None) == 1234
    done = AuditEntry.objects.filter(action__startswith="fee.").order_by("id")
    assert [row.action for row in done] == ["fee.change", "fee.withdraw", "fee.change"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fee_bps": 5001}, "fee_bps"),
        ({"fee_bps": -1}, "fee_bps"),
        ({"accelerator": "abacus"}, "accelerator"),
        ({"valid_from": "2026-02-28T00:00:00Z"}, "valid_from"),
        ({"valid_from": "2029-01-01T00:00:00Z"}, "valid_from"),
        ({"reason": "x"}, "reason"),
    ],
)
def test_a_wrong_change_is_refused(staff: Api, change: dict[str, Any], field: str) -> None:
    for path in ("staff/fees", "staff/fees/preview"):
        answer = staff.post(path, {**LOWER, **change})
        assert (answer.status_code, list(answer.data["errors"])) == (422, [field])


def test_own_cards_pay_no_fee_and_nobody_has_no_page(staff: Api) -> None:
    supply = make_supply(1, ownership="owned")
    own = {**LOWER, "provider": supply.provider.public_id}
    assert list(staff.post("staff/fees", own).data["errors"]) == ["provider"]
    assert supply.owner.call("GET", "/provider")[1]["fees"] == {
        "bps": 0, "cards": {}, "coming": []
    }  # fmt: skip
    assert staff.post("staff/fees", {**LOWER, "provider": f"prv_{'0' * 26}"}).status_code == 404
    assert staff.delete(f"staff/fees/fee_{'0' * 26}").status_code == 404


def test_after_its_approval_a_provider_is_rebound_without_changing_its_fee(staff: Api) -> None:
    supply = make_supply(1)
    Provider.objects.update(fee_bps=1200, approved_at=NOON)
    path = f"staff/providers/{supply.provider.public_id}/approve"
    assert staff.post(path, {"networks": ["127.0.0.0/8"]}).status_code == 200
    assert Provider.objects.get().fee_bps == 1200
    refused = staff.post(path, {"fee_bps": 2000})
    assert (refused.status_code, list(refused.data["errors"])) == (422, ["fee_bps"])


def test_a_fee_is_one_query_however_many_changes_there_are(staff: Api) -> None:
    supply = make_supply(1)
    FeeChange.objects.bulk_create(
        FeeChange(fee_bps=1000 + n, valid_from=NOON - timedelta(days=n), reason="x", made_by="x")
        for n in range(50)
    )
    with CaptureQueriesContext(connection) as captured:
        assert fee_of(supply.provider, H100) == 1000
    assert len(captured) == 1
