"""POST /rentals: what is stored when it works, and that nothing is when it does not."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from django.db import connection

from kernel.ids import new_id, parse
from marketplace.accounts import idempotency
from marketplace.models import Organization, Quote, Rental, RentalEvent
from marketplace.rentals import start
from provisioner.models import DeviceGroup, Hold, Instance, Slot
from tests.market import SSH_KEY, USD, Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply() -> Supply:
    return make_supply(4, 2)


@pytest.fixture
def renter() -> Renter:
    return make_renter()


def test_a_quoted_order_becomes_a_rental_with_its_cards_and_its_hold(supply, renter):
    status, quote = renter.call(
        "POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 2, "disk_gib": 80}
    )
    assert status == 201, quote
    assert quote["total_per_hour"] == "4.0000"
    assert quote["stopped_per_day"] == "0.0000"
    body = order(supply.offer, requirement=..., quote=quote["id"], name="first", labels={"a": "b"})
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    assert (rental["state"], rental["reason"]) == ("provisioning", "placed")
    assert rental["actions"] == ["extend", "stop", "terminate"]
    assert (rental["gpus"], rental["disk_gib"], rental["price"]) == (2, 80, "4.0000")
    assert rental["access"] == {"ssh": None, "ports": [], "jupyter": None, "terminal": None}
    stored = Rental.objects.get(id=parse("rental", rental["id"]))
    instance = Instance.objects.get(rental_ref=stored.id)
    assert instance.id == stored.instance_ref
    assert Hold.objects.filter(rental_ref=stored.id, to_ts=None).count() == 2
    assert stored.price_micro_h == 4 * USD
    assert stored.provider_micro_h == 3_400_000
    assert Quote.objects.get().used_at is not None
    assert renter.call("GET", "/billing/balance")[1]["held"] == "4.0000"
    assert [event.reason for event in RentalEvent.objects.all()] == ["placed"]


def test_the_same_key_gives_the_same_bytes_and_one_rental(supply, renter):
    body, key = order(supply.offer), str(new_id())
    first = renter.raw("POST", "/rentals", body, key=key)
    assert first[0] == 202, first
    assert renter.raw("POST", "/rentals", body, key=key) == first
    assert Rental.objects.count() == 1
    other = renter.call("POST", "/rentals", {**body, "name": "other"}, key=key)
    assert (other[0], other[1]["type"]) == (422, "/problems/idempotency_key_reuse")


def test_a_replay_finds_its_answer_although_its_quote_is_used_and_the_cards_are_gone(renter):
    supply = make_supply(1)
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    body, key = order(supply.offer, requirement=..., quote=quote["id"]), str(new_id())
    first = renter.raw("POST", "/rentals", body, key=key)
    assert first[0] == 202
    assert renter.raw("POST", "/rentals", body, key=key) == first
    again = renter.call("POST", "/rentals", body)
    assert (again[0], again[1]["type"]) == (409, "/problems/quote_used")


def test_a_duplicate_that_lost_to_its_own_first_run_gets_that_answer(renter):
    supply = make_supply(1)
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    key = str(new_id())
    body = order(supply.offer, requirement=..., quote=quote["id"])
    first = renter.raw("POST", "/rentals", body, key=key)
    # It looked for a stored answer before there was one, and for its quote after.
    answers = [None, idempotency.stored]
    with patch.object(
        start, "stored", lambda claim: found(claim) if (found := answers.pop(0)) else None
    ):
        assert renter.raw("POST", "/rentals", body, key=key) == first
    assert answers == []
    assert Rental.objects.count() == 1


def test_a_requirement_takes_the_cheapest_that_fits(renter):
    make_supply(2, price=3 * USD)
    cheap = make_supply(2, price=1 * USD, region="us-east", country="US")
    body = order(cheap.offer, requirement={"accelerator": "nvidia-h100-80gb-sxm", "gpus": 1})
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202
    assert (rental["offer"], rental["price"]) == (cheap.offer.public_id, "1.0000")


def test_money_is_asked_last_and_a_lack_of_it_stores_nothing(supply):
    poor = make_renter(credit=1 * USD)
    status, problem = poor.call("POST", "/rentals", order(supply.offer))
    assert (status, problem["type"]) == (402, "/problems/insufficient_funds")
    assert problem["needed"] == "2.0000"
    assert problem["available"] == "1.0000"
    assert "topup_url" in problem
    assert not Rental.objects.exists()
    assert not Instance.objects.exists()
    assert not Slot.objects.exclude(state="free").exists()


def test_spend_limit_and_quota_hold_for_the_sum_of_what_is_rented(supply, renter):
    organization = renter.principal.org
    organization.spend_limit_micro_h = 4 * USD
    organization.quota_gpus = 3
    organization.save()
    assert renter.call("POST", "/rentals", order(supply.offer, 1))[0] == 202
    status, problem = renter.call("POST", "/rentals", order(supply.offer, 2))
    assert (status, problem["type"]) == (403, "/problems/spend_rate_limit")
    assert (problem["limit"], problem["raises_at"]) == ("4.0000", None)  # staff fixed it
    organization.spend_limit_micro_h = 100 * USD
    organization.save()
    status, problem = renter.call("POST", "/rentals", order(supply.offer, 3))
    assert (status, problem["type"]) == (403, "/problems/quota_exceeded")
    assert Rental.objects.count() == 1
    assert Slot.objects.filter(state="held").count() == 1


def test_the_spend_limit_grows_with_what_was_paid_and_stayed_paid(renter):
    supply = make_supply(1, price=250 * USD)
    Organization.objects.update(spend_limit_fixed=False)
    status, problem = renter.call("POST", "/rentals", order(supply.offer, 1))
    assert (status, problem["type"]) == (403, "/problems/spend_rate_limit")
    assert problem["limit"] == "200.0000"
    shown = renter.call("GET", "/me")[1]["spend_limit"]
    assert (shown["per_hour"], shown["raises_at"]) == ("200.0000", problem["raises_at"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, true)", [problem["raises_at"]])
    assert renter.call("GET", "/me")[1]["spend_limit"]["per_hour"] == "500.0000"
    assert renter.call("POST", "/rentals", order(supply.offer, 1))[0] == 202


def test_a_taken_offer_names_alternatives_and_a_requirement_relaxations(renter):
    small = make_supply(1)
    other = make_supply(4, price=3 * USD, region="us-east", country="US")
    quote = renter.call("POST", "/quotes", {"offer": small.offer.public_id, "gpus": 1})[1]
    assert renter.call("POST", "/rentals", order(small.offer))[0] == 202
    status, problem = renter.call(
        "POST", "/rentals", order(small.offer, requirement=..., quote=quote["id"])
    )
    assert (status, problem["type"]) == (409, "/problems/offer_taken")
    assert [row["id"] for row in problem["alternatives"]] == [other.offer.public_id]
    status, problem = renter.call("POST", "/rentals", order(small.offer))
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    region = [r for r in problem["relaxations"] if r["changes"][0]["field"] == "region"]
    assert region == [
        {
            "changes": [{"field": "region", "from": "eu-central", "to": "us-east"}],
            "count": 1,
            "price_per_gpu_hour": "3.0000",
            "currency": "USD",
        }
    ]
    assert problem["next_free_estimate"] is not None
    quote_again = renter.call("POST", "/quotes", {"offer": other.offer.public_id, "gpus": 1})
    assert quote_again[0] == 201


def test_a_stale_summary_never_refuses_a_free_card(supply, renter):
    DeviceGroup.objects.update(slots_free=0, largest_block=0)
    assert renter.call("POST", "/rentals", order(supply.offer))[0] == 202


def test_a_price_change_touches_new_quotes_only(supply, renter):
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    status, _ = supply.owner.call(
        "PATCH", f"/provider/offers/{supply.offer.public_id}", {"price_per_gpu_hour": "9.0000"}
    )
    assert status == 200
    new = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    assert new["total_per_hour"] == "9.0000"
    rental = renter.call(
        "POST", "/rentals", order(supply.offer, requirement=..., quote=quote["id"])
    )[1]
    assert rental["price"] == "2.0000"


def test_own_cards_pay_nothing_away(renter):
    supply = make_supply(1, ownership="owned")
    rental = renter.call("POST", "/rentals", order(supply.offer))[1]
    assert rental["ownership"] == "owned"
    assert Rental.objects.get().provider_micro_h == 0


def test_the_template_must_fit_the_card(renter):
    supply = make_supply(1, accelerator="ascend-910b")
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    for body in (
        order(supply.offer, template="pytorch"),
        order(supply.offer, template="pytorch", requirement=..., quote=quote["id"]),
    ):
        status, problem = renter.call("POST", "/rentals", body)
        assert (status, problem["type"]) == (422, "/problems/template_mismatch")
        assert problem["needs"]["toolkit"] == "cuda"
        assert problem["has"]["toolkit"] == "cann"
    assert not Rental.objects.exists()


def test_stored_keys_are_taken_by_id_and_copied(supply, renter):
    key = renter.call("POST", "/ssh-keys", {"name": "laptop", "public_key": SSH_KEY})[1]
    rental = renter.call("POST", "/rentals", order(supply.offer, ssh_keys=[key["id"]]))[1]
    assert rental["ssh_keys"] == [SSH_KEY.rsplit(" ", 1)[0]]


def test_an_unverified_or_frozen_account_rents_nothing(supply, renter):
    status, problem = make_renter(verified=False).call("POST", "/rentals", order(supply.offer))
    assert (status, problem["type"]) == (403, "/problems/email_unverified")
    renter.principal.org.state = "frozen"
    renter.principal.org.save()
    status, problem = renter.call("POST", "/rentals", order(supply.offer))
    assert (status, problem["type"]) == (403, "/problems/account_frozen")
    assert not Rental.objects.exists()
