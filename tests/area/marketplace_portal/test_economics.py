"""What a card costs, in the browser: the same figures as over the API, and wrong ones named."""

from __future__ import annotations

from urllib.parse import urlencode

from tests import market
from tests.area.marketplace_portal.visitors import Visitor, read, visitor_of
from tests.market import H100, USD, make_renter, make_supply

# Worked out by hand in tests/unit/marketplace_providers/test_economics.py. Shares in percent here.
FIGURES = {
    "purchase_price": "26280",
    "utilisation": "80",
    "price": "2.00",
    "watts_load": "1000",
    "watts_idle": "100",
    "kwh_price": "0.20",
    "pue": "1.5",
    "life_years": "3",
    "method": "straight_line",
    "residual": "0",
    "decline": "50",
    "colocation": "73",
    "upkeep": "5",
    "fee_bps": "15",
}


def at(**changes: str) -> str:
    return f"/provider/economics?{urlencode({**FIGURES, **changes})}"


def test_figures_in_the_address_give_costs_and_prices(renter: Visitor) -> None:
    empty = renter.get("/provider/economics")
    assert empty.status_code == 200
    assert "Full-cost price" not in empty.text
    page = renter.get(at())
    assert page.status_code == 200
    # Depreciation, both hours, the full cost, the floor, the full-cost price, what is left.
    for text in ("$1.00", "$1.55", "$1.28", "$1.87", "$0.317648", "$2.20", "−$0.17"):
        assert text in page.text, text
    assert "89.52 %" in page.text
    assert "3.48 years" in page.text
    assert "After the end of its life of 3 years." in page.text
    assert "$1.280883" in page.text, "over eight years, at 80 %"
    assert 'points="0,0 106,60 213,90 320,105"' in page.text, "half of it each year"
    fields = read(page.text).forms[-1]["fields"]
    assert fields["utilisation"] == "80", "the form keeps what was written"


def test_no_utilisation_covers_too_low_a_price(renter: Visitor) -> None:
    text = renter.get(at(price="0.30")).text
    assert "pays no more than the energy" in text
    assert "earns no more than it costs to run" in text


def test_an_own_offer_fills_in_its_price(provider: Visitor, supply: market.Supply) -> None:
    assert 'href="/provider/economics"' in provider.get("/provider").text
    page = provider.get(at(card=supply.offer.public_id, price="", fee_bps=""))
    assert "Empty: the offer" in page.text
    assert "Empty: 15 %, which is yours." in page.text
    assert "89.52 %" in page.text, "at the offer's 2.00 and the platform's 15 %"
    assert "once others have three offers" in page.text
    stranger = visitor_of(make_renter("Other"))
    assert stranger.get(at(card=supply.offer.public_id)).status_code == 404
    assert stranger.get("/provider/economics?card=made-up").status_code == 404


def test_the_market_stands_beside_the_own_price(renter: Visitor, supply: market.Supply) -> None:
    for price in (1, 4):
        make_supply(1, price=price * USD)
    before = renter.get(f"/provider/economics?card={H100}")
    for text in ("$1.00", "$2.00", "$4.00", "Of 3 offers on sale now"):
        assert text in before.text, text
    assert "nine tenths" in renter.get(at(card=H100)).text


def test_wrong_figures_are_named_beside_their_field(renter: Visitor) -> None:
    for name, value in (
        ("purchase_price", "0"),
        ("purchase_price", ""),
        ("utilisation", "0"),
        ("utilisation", "101"),
        ("watts_idle", "1001"),
        ("watts_load", "NaN"),
        ("pue", "0.5"),
        ("kwh_price", "1e3"),
        ("residual", "100"),
        ("decline", "x"),
        ("life_years", "6"),
        ("fee_bps", "51"),
        ("card", ""),
    ):
        page = renter.get(at(**{name: value}))
        right = name == "card"
        assert page.status_code == (200 if right else 422), (name, value)
        assert (f'id="id_{name}-error"' in page.text) != right, (name, value)
    # A price of nothing is no price that could be asked.
    assert 'id="id_price-error"' in renter.get(at(price="0")).text
