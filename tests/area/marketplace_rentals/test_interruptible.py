"""Interruptible use: its own price, where it is set, found, quoted and rented. No notices here."""

from __future__ import annotations

from typing import Any

import pytest

from marketplace.models import PriceVersion
from tests.market import H100, USD, Renter, Supply, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply() -> Supply:
    return make_supply(4, price=2 * USD, interruptible=USD // 2)


@pytest.fixture
def renter() -> Renter:
    return make_renter()


def price(supply: Supply, **changes: Any) -> tuple[int, Any]:
    path = f"/provider/offers/{supply.offer.public_id}"
    return supply.owner.call("PATCH", path, changes)


def quoted(renter: Renter, body: dict[str, Any]) -> tuple[int, Any]:
    return renter.call("POST", "/quotes", body)


def test_the_owner_sets_changes_and_withdraws_it(supply):
    status, offer = price(supply, interruptible_price_per_gpu_hour="0.7500")
    assert (status, offer["interruptible_price_per_gpu_hour"]) == (200, "0.7500")
    assert price(supply, price_per_gpu_hour="3.0000")[1]["interruptible_price_per_gpu_hour"] == (
        "0.7500"
    )
    versions = PriceVersion.objects.filter(offer=supply.offer).order_by("number")
    assert list(versions.values_list("price_micro_h", "interruptible_price_micro_h")) == [
        (2 * USD, USD // 2),
        (2 * USD, USD * 3 // 4),
        (3 * USD, USD * 3 // 4),
    ]
    status, offer = price(supply, interruptible_price_per_gpu_hour=None)
    assert (status, offer["interruptible_price_per_gpu_hour"]) == (200, None)
    row = public_get(f"/offers/{supply.offer.public_id}")[1]
    assert (row["interruptible"], row["interruptible_price_per_gpu_hour"]) == (False, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"interruptible_price_per_gpu_hour": "2.0001"},
        {"interruptible_price_per_gpu_hour": "0"},
        {"interruptible_price_per_gpu_hour": "-1"},
        {"interruptible_price_per_gpu_hour": 0.5},
        {"interruptible_price_per_gpu_hour": "0.12345678"},
        {"interruptible_price_per_gpu_hour": "9" * 40},
        {"interruptible_price_per_gpu_hour": True},
        {"price_per_gpu_hour": "0.4999"},  # below the other, which stays
    ],
)
def test_it_is_more_than_nothing_and_never_dearer_than_the_price(supply, changes):
    status, problem = price(supply, **changes)
    assert status == 422
    assert problem["errors"].keys() == {"interruptible_price_per_gpu_hour"}
    assert supply.offer.interruptible_price_micro_h == USD // 2


def test_both_prices_change_together_and_as_high_as_the_other_is_allowed(supply):
    status, _ = price(
        supply, price_per_gpu_hour="0.4000", interruptible_price_per_gpu_hour="0.4000"
    )
    assert status == 200


def test_the_catalogue_orders_by_the_price_that_holds_for_the_question(supply):
    dear = make_supply(2, price=USD, interruptible=USD * 9 // 10)
    make_supply(2, price=USD // 10)
    asked = public_get("/offers?interruptible=true&limit=1")[1]
    row = asked["items"][0]
    assert (row["id"], row["price_per_gpu_hour"]) == (supply.offer.public_id, "0.5000")
    assert (row["interruptible"], row["interruptible_price_per_gpu_hour"]) == (True, "0.5000")
    assert "0.5000" in row["why_here"]
    cursor = asked["next_cursor"]
    rest = public_get(f"/offers?interruptible=true&limit=1&cursor={cursor}")[1]
    assert [row["id"] for row in rest["items"]] == [dear.offer.public_id]
    assert rest["next_cursor"] is None
    down = public_get("/offers?interruptible=true&order=-price")[1]["items"]
    assert [row["price_per_gpu_hour"] for row in down] == ["0.9000", "0.5000"]
    usual = public_get("/offers")[1]["items"]
    assert [row["price_per_gpu_hour"] for row in usual] == ["0.1000", "1.0000", "2.0000"]
    assert [row["interruptible"] for row in usual] == [False, True, True]


def test_a_quote_and_its_rental_have_that_price_and_say_so(supply, renter):
    body = {"offer": supply.offer.public_id, "gpus": 2, "interruptible": True}
    status, quote = quoted(renter, body)
    assert (status, quote["interruptible"]) == (201, True)
    assert (quote["price_per_gpu_hour"], quote["total_per_hour"]) == ("0.5000", "1.0000")
    price(supply, interruptible_price_per_gpu_hour="0.6000")
    status, rental = renter.call(
        "POST", "/rentals", order(supply.offer, requirement=..., quote=quote["id"])
    )
    assert (status, rental["interruptible"], rental["price"]) == (202, True, "1.0000")
    assert rental["price_per_gpu_hour"] == "0.5000"
    assert float(renter.call("GET", "/billing/balance")[1]["held"]) == 1.0
    ordinary = quoted(renter, {**body, "interruptible": False})[1]
    assert (ordinary["interruptible"], ordinary["total_per_hour"]) == (False, "4.0000")


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_a_requirement_may_say_it_in_either_place(supply, renter, where):
    make_supply(4, price=USD, region="eu-north")  # cheaper, but not so
    requirement: dict[str, Any] = {"accelerator": H100, "gpus": 1}
    body: dict[str, Any] = {"requirement": requirement}
    (requirement if where == "inside" else body)["interruptible"] = True
    quote = quoted(renter, body)[1]
    assert (quote["offer"], quote["total_per_hour"]) == (supply.offer.public_id, "0.5000")
    rental = renter.call("POST", "/rentals", {**order(supply.offer), **body})[1]
    assert (rental["interruptible"], rental["price"]) == (True, "0.5000")


def test_an_order_that_says_no_is_an_ordinary_one_and_every_offer_takes_it(supply, renter):
    asked = {"accelerator": H100, "gpus": 1, "interruptible": False}
    status, rental = renter.call("POST", "/rentals", order(supply.offer, requirement=asked))
    assert (status, rental["interruptible"], rental["price"]) == (202, False, "2.0000")


def test_contradictions_and_what_is_not_offered_are_refused_by_field(supply, renter):
    plain = make_supply(4, region="eu-north")
    asked = {"accelerator": H100, "gpus": 1}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/quotes", {"offer": plain.offer.public_id, "gpus": 1, "interruptible": True}),
        ("/quotes", {"requirement": {**asked, "interruptible": True}, "interruptible": False}),
        ("/quotes", {"requirement": {**asked, "interruptible": False}, "interruptible": True}),
        ("/quotes", {"offer": supply.offer.public_id, "gpus": 1, "interruptible": "yes"}),
        ("/quotes", {"offer": supply.offer.public_id, "gpus": 1, "interruptible": None}),
    ]
    quote = quoted(renter, {"offer": supply.offer.public_id, "gpus": 1})[1]
    by_quote = order(supply.offer, requirement=..., quote=quote["id"])
    bodies.append(("/rentals", {**by_quote, "interruptible": True}))
    bodies.append(("/rentals", {**order(supply.offer), "interruptible": 1}))
    for path, body in bodies:
        status, problem = renter.call("POST", path, body)
        assert (status, *problem["errors"]) == (422, "interruptible"), body
    assert renter.call("POST", "/rentals", {**by_quote, "interruptible": False})[0] == 202


def test_where_nothing_is_offered_so_leaving_it_out_is_the_smallest_change(renter):
    plain = make_supply(2)
    asked = {"accelerator": H100, "gpus": 1, "region": plain.offer.region, "interruptible": True}
    status, problem = renter.call("POST", "/rentals", order(plain.offer, requirement=asked))
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    change = problem["relaxations"][0]
    assert change["changes"] == [{"field": "interruptible", "from": True, "to": None}]
    assert (change["count"], change["price_per_gpu_hour"]) == (1, "2.0000")


def test_too_dear_for_its_cap_it_names_the_price_of_that_use(supply, renter):
    asked = {"accelerator": H100, "gpus": 1, "interruptible": True, "max_price": "0.4000"}
    problem = renter.call("POST", "/rentals", order(supply.offer, requirement=asked))[1]
    changes = [(c["changes"][0]["field"], c["changes"][0]["to"]) for c in problem["relaxations"]]
    assert ("max_price", "0.5000") in changes
