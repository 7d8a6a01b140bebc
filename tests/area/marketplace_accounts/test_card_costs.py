"""Figures that an owner keeps of a card, and what needs it, over the API."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.accounts import switches
from marketplace.models import AuditEntry, CardCost, Provider
from tests.market import H100, USD, Supply, make_renter, make_supply

FIGURES = {
    "purchase_price": "26280",
    "watts_load": "1000",
    "watts_idle": "100",
    "kwh_price": "0.20",
    "utilisation": "0.8",
    "life_years": 3,
    "decline": "0.5",
    "pue": "1.5",
    "colocation": "73",
    "upkeep": "0.05",
}
AT = f"/provider/card-costs/{H100}"


@pytest.fixture
def supply(transactional_db: None) -> Supply:
    supply = make_supply(2, price=2 * USD)
    Provider.objects.update(fee_bps=1500)
    return supply


def test_they_are_kept_changed_and_forgotten(supply: Supply) -> None:
    owner = supply.owner
    status, kept = owner.call("PUT", AT, FIGURES)
    assert status == 200, kept
    assert (kept["floor_price"], kept["full_cost_price"]) == ("0.317648", "2.2000")
    assert (kept["purchase_price"], kept["utilisation"]) == ("26280.0000", "0.8")
    assert (kept["residual"], kept["method"]) == ("0", "straight_line")
    assert owner.call("GET", "/provider/card-costs")[1]["items"] == [kept]
    cheaper = owner.call("PUT", AT, {**FIGURES, "watts_load": "500"})[1]
    assert cheaper["floor_price"] < kept["floor_price"]
    assert CardCost.objects.count() == 1
    assert owner.call("DELETE", AT)[0] == 204
    assert owner.call("DELETE", AT)[0] == 404
    actions = AuditEntry.objects.filter(action__startswith="card_cost.").order_by("id")
    assert [one.action for one in actions] == ["card_cost.save"] * 2 + ["card_cost.forget"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purchase_price", "0"),
        ("watts_idle", "1001"),
        ("utilisation", "0"),
        ("utilisation", "NaN"),
        ("utilisation", "0.12345678"),
        ("life_years", 6),
        ("method", "x"),
        ("pue", "0.5"),
        ("residual", 1),
        ("fee_bps", 1),
    ],
)
def test_a_figure_that_cannot_be_is_named(supply: Supply, name: str, value: object) -> None:
    status, problem = supply.owner.call("PUT", AT, {**FIGURES, name: value})
    assert status == 422, problem
    assert name in str(problem)
    assert not CardCost.objects.exists()


def test_nobody_sees_anothers_and_only_owners_keep_any(supply: Supply) -> None:
    assert supply.owner.call("PUT", AT, FIGURES)[0] == 200
    other = make_supply(1, region="us-east").owner
    assert other.call("GET", "/provider/card-costs")[1]["items"] == []
    assert other.call("DELETE", AT)[0] == 404
    assert make_renter().call("PUT", AT, FIGURES)[0] == 404
    assert supply.owner.call("PUT", "/provider/card-costs/made-up", FIGURES)[0] == 404
    assert CardCost.objects.count() == 1


def test_what_needs_the_owner(supply: Supply) -> None:
    owner = supply.owner
    codes = [one["code"] for one in owner.call("GET", "/provider/needs")[1]["items"]]
    assert codes == ["payout_account"]
    make_supply(1, price=None, owner=owner, region="us-east")
    supply.owner.call("PUT", AT, {**FIGURES, "watts_load": "20000"})
    found = owner.call("GET", "/provider/needs")[1]["items"]
    assert [one["code"] for one in found] == ["no_price", "below_floor", "payout_account"]
    assert [one["urgency"] for one in found] == ["now", "soon", "soon"]
    assert make_renter().call("GET", "/provider/needs")[0] == 404


def test_needs_take_as_many_statements_for_many_clusters(supply: Supply) -> None:
    def count() -> int:
        switches.forget()  # read again every other second: counted always, not by the clock
        with CaptureQueriesContext(connection) as captured:
            assert supply.owner.call("GET", "/provider/needs")[0] == 200
        return len(captured)

    count()  # the first call of a key writes down that it is used
    one = count()
    for _ in range(3):
        make_supply(1, owner=supply.owner, region="us-east")
    assert count() == one
