"""What a card costs, over the API: figures in, prices out; the market shows no single price."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.ids import new_id, public
from marketplace.catalog.market import asked
from marketplace.models import Offer, Provider
from tests.area.marketplace_accounts.people import Api
from tests.market import H100, USD, Supply, make_renter, make_supply

# The case of tests/unit/marketplace_providers/test_economics.py, worked out by hand there.
FIGURES = {
    "purchase_price": "26280",
    "watts_load": "1000",
    "watts_idle": "100",
    "kwh_price": "0.20",
    "utilisation": "0.8",
    "life_years": "3",
    "decline": "0.5",
    "pue": "1.5",
    "colocation": "73",
    "upkeep": "0.05",
    "fee_bps": "1500",
}


def ask(api: Api, **changes: str | None) -> Any:
    figures = {name: value for name, value in {**FIGURES, **changes}.items() if value is not None}
    return api.get(f"provider/economics?{urlencode(figures)}")


def test_the_case_by_hand(owner: Api) -> None:
    shown = ask(owner, price="2").data
    assert (shown["floor_price"], shown["full_cost_price"]) == ("0.317648", "2.2000")
    assert shown["full_cost_per_rented_hour"] == "1.8700"
    assert (shown["price"], shown["margin_per_rented_hour"]) == ("2.0000", "-0.1700")
    assert shown["break_even"] == {"utilisation": "0.8952", "note": ""}
    assert shown["payback"]["years"] == "3.48"
    assert shown["per_hour"] == {
        "depreciation": "1.0000",
        "straight_line": "1.0000",
        "market_value": "0.8750",
        "energy_rented": "0.3000",
        "energy_idle": "0.0300",
        "colocation": "0.1000",
        "upkeep": "0.1500",
        "idle_hour": "1.2800",
        "rented_hour": "1.5500",
    }
    assert shown["utilisations"] == ["0.25", "0.5", "0.7", "0.8", "0.85", "1"]
    assert len(shown["table"]) == 8
    assert shown["years"][-1]["market_value"] == "3285.0000"
    assert (shown["market"], shown["offer"], shown["accelerator"]) == (None, None, None)


def test_what_was_not_given_is_named(owner: Api, settings: Any) -> None:
    settings.GPUYARD_FEE_BPS = 1200
    needed = ("purchase_price", "watts_load", "watts_idle", "kwh_price", "utilisation")
    rest = {name: None for name in FIGURES if name not in needed}
    shown = ask(owner, **rest).data
    assert shown["inputs"] == {
        "purchase_price": "26280.0000",
        "watts_load": "1000",
        "watts_idle": "100",
        "kwh_price": "0.2000",
        "utilisation": "0.8",
        "life_years": 4,
        "method": "straight_line",
        "residual": "0",
        "decline": "0.33",
        "pue": "1.4",
        "colocation": "0.0000",
        "upkeep": "0",
        "fee_bps": 1200,
    }
    assert (shown["price"], shown["break_even"]["utilisation"]) == (None, None)
    for name in needed:
        answer = ask(owner, **{name: None})
        assert (answer.status_code, answer.data["filter"]) == (400, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("purchase_price", "0"),
        ("purchase_price", "-1"),
        ("purchase_price", "1e5"),
        ("kwh_price", "11"),
        ("watts_idle", "1001"),
        ("utilisation", "0"),
        ("utilisation", "80"),
        ("life_years", "6"),
        ("method", "guess"),
        ("residual", "1"),
        ("pue", "0.9"),
        ("fee_bps", "9999"),
        ("price", "0"),
        ("accelerator", "nvidia-h100"),
        ("watts", "700"),
    ],
)
def test_a_wrong_figure_is_refused_by_its_name(owner: Api, name: str, value: str) -> None:
    answer = ask(owner, **{name: value})
    assert (answer.status_code, answer.data["filter"]) == (400, name), answer.data


def test_nothing_is_stored(owner: Api) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert ask(owner, accelerator=H100, price="1").status_code == 200
    changing = [one["sql"] for one in captured if not one["sql"].startswith("SELECT")]
    assert [sql for sql in changing if "last_used_at" not in sql] == [], "but when the key was used"


def as_owner(supply: Supply) -> Any:
    def get(**more: str) -> Any:
        query = urlencode({**FIGURES, **more})
        status, shown = supply.owner.call("GET", f"/provider/economics?{query}")
        assert status == 200, shown
        return shown

    return get


def test_an_offer_fills_in_price_fee_and_card(owner: Api, settings: Any) -> None:
    supply = make_supply(2, price=3 * USD)
    settings.GPUYARD_FEE_BPS = 1500
    figures = {name: value for name, value in FIGURES.items() if name != "fee_bps"}
    query = urlencode({**figures, "offer": supply.offer.public_id})
    _, shown = supply.owner.call("GET", f"/provider/economics?{query}")
    assert (shown["price"], shown["inputs"]["fee_bps"]) == ("3.0000", 1500)
    assert (shown["offer"], shown["accelerator"]) == (supply.offer.public_id, H100)
    Provider.objects.update(fee_bps=500)
    _, shown = supply.owner.call("GET", f"/provider/economics?{query}")
    assert shown["inputs"]["fee_bps"] == 500
    Provider.objects.update(ownership="owned")
    _, shown = supply.owner.call("GET", f"/provider/economics?{query}&price=4")
    assert (shown["price"], shown["inputs"]["fee_bps"]) == ("4.0000", 0)
    assert ask(owner, offer=supply.offer.public_id).status_code == 404
    assert ask(owner, offer=public("offer", new_id())).status_code == 404
    status, both = supply.owner.call("GET", f"/provider/economics?{query}&accelerator={H100}")
    assert (status, both["filter"]) == (400, "accelerator")


def test_the_market_shows_nobodys_single_price(owner: Api) -> None:
    mine, other, third = make_supply(1, price=9 * USD), make_supply(1), make_supply(1, price=USD)
    get = as_owner(mine)
    assert get(accelerator=H100)["market"] is None, "two offers of others"
    again = make_supply(1, price=3 * USD, owner=third.owner)
    # The four prices are 1, 2, 3 and 9 USD.
    assert get(accelerator=H100)["market"] == {
        "offers": 4,
        "p10": "1.0000",
        "median": "2.0000",
        "p90": "9.0000",
    }
    assert get(accelerator="nvidia-rtx-4090")["market"] is None
    theirs = as_owner(third)
    assert theirs(accelerator=H100)["market"] is None, "two of the four are its own"
    Offer.objects.filter(id=other.offer.id).update(state="paused")
    fourth = make_supply(1, price=4 * USD, owner=again.owner)
    assert fourth.offer.state == "active"
    assert get(accelerator=H100)["market"] is None, "three offers, and one other owner"


def test_the_market_is_one_statement_and_of_whole_micro_units(owner: Api) -> None:
    for number in range(11):
        make_supply(1, price=1_000_000 + number)
    make_renter()
    with CaptureQueriesContext(connection) as captured:
        market = asked(H100, besides=new_id())
    assert len(captured) == 1
    assert market is not None
    found = (market.p10_micro, market.median_micro, market.p90_micro)
    # Nearest ranks of eleven: the 2nd, the 6th, the 10th.
    assert found == (1_000_001, 1_000_005, 1_000_009)
    assert all(isinstance(value, int) for value in found)
