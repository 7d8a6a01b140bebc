"""What a card costs, in the browser: the same figures as over the API, and wrong ones named."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import hour_of, now
from marketplace.accounts.access import principal_of
from marketplace.models import CardCost, User
from marketplace.providers import margins
from tests import market
from tests.area.billing.conftest import credit, limit, open_org, rent, use, window
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, read, visitor_of
from tests.authenticator import make_staff
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


def form_of(page: Any) -> dict[str, str]:
    """What the form of figures holds."""
    forms = [one for one in read(page.text).forms if one["action"] == "/provider/economics"]
    return dict(forms[0]["fields"])


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
    assert "[26280.0, 13140.0, 6570.0, 3285.0]" in page.text, "half of it each year"
    assert page.text.count("data-chart") == 3
    assert "Owned by the platform, no fee" in page.text
    fields = form_of(page)
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


def test_figures_are_kept_for_a_card_and_stand_beside_its_price(
    provider: Visitor, supply: market.Supply
) -> None:
    assert "Keep them" not in provider.get(at()).text, "of no card"
    page = provider.get(at(card=supply.offer.public_id))
    answer = provider.send(page, "/provider/economics/save")
    assert answer["Location"] == f"/provider/economics?card={supply.offer.public_id}"
    assert CardCost.objects.get().accelerator == H100
    again = provider.get(answer["Location"])
    assert "Kept. Its floor price" in again.text
    kept = form_of(again)
    assert (kept["utilisation"], kept["upkeep"], kept["price"]) == ("80", "5", "")
    assert "89.52 %" in again.text, "at the offer's price, which is no part of what is kept"
    assert "$0.3177" in provider.get("/provider/offers").text, "rounded up at a glance"
    changed = provider.get(at(card=H100, purchase_price="5000"))
    assert "Keep these instead" in changed.text
    provider.send(changed, "/provider/economics/save")
    assert CardCost.objects.get().figures["purchase_micro"] == 5_000_000_000
    wrong = provider.post("/provider/economics/save", {**FIGURES, "card": H100, "utilisation": "0"})
    assert wrong.status_code == 422
    other = visitor_of(market.make_supply(1, region="us-east").owner)
    assert other.post(f"/provider/economics/{H100}/forget").status_code == 404
    assert provider.send(again, f"/provider/economics/{H100}/forget").status_code == 303
    assert not CardCost.objects.exists()


def test_who_never_applied_keeps_nothing(renter: Visitor) -> None:
    page = renter.get(at(card=H100))
    assert "Keep them" not in page.text
    answer = renter.post("/provider/economics/save", {**FIGURES, "card": H100})
    assert answer.status_code == 404
    assert not CardCost.objects.exists()


@pytest.fixture
def staff(transactional_db: None) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def rented(supply: market.Supply, *, gpus: int, price: int, share: int, hours_ago: int) -> None:
    """One hour of that many cards for ``price`` together, of which ``share`` is the owner's."""
    org = open_org()
    limit(org, 10_000 * USD)
    rental = rent(
        org,
        provider_ref=supply.provider.id,
        gpus=gpus,
        price_micro_h=price,
        provider_micro_h=share,
        accelerator=supply.group.accelerator,
    )
    use(window(rental, hour_of(now()) - timedelta(hours=hours_ago), 3600))


def days(**costs: str) -> str:
    """The whole of the day before yesterday, and the costs of own cards."""
    day = f"{now() - timedelta(days=2):%Y-%m-%d}"
    return f"/staff/economics?{urlencode({'first': day, 'last': day, **costs})}"


def test_staff_see_what_own_and_partners_cards_leave(staff: Visitor) -> None:
    nothing = staff.get("/staff/economics")
    assert "Nothing was rented in these days" in nothing.text
    ours, theirs = make_supply(4, ownership="owned"), make_supply(8)
    # Noon of the day before yesterday, and one hour that is too old.
    noon = 24 + now().hour + 12
    rented(ours, gpus=4, price=12 * USD, share=0, hours_ago=noon)
    rented(theirs, gpus=2, price=4 * USD, share=3_400_000, hours_ago=noon)
    rented(theirs, gpus=2, price=4 * USD, share=3_400_000, hours_ago=noon + 48)
    page = staff.get(days())
    # 4 and 2 GPU-hours; 4.00 x 15 % = 0.60, and 0.30 of each GPU-hour. No cost of ours was given.
    for text in ("4.00</td>", "2.00</td>", "$12.00", "$4.00", "$0.60", "$0.30 per GPU-hour"):
        assert text in page.text, text
    assert page.text.count("per GPU-hour</span>") == 1
    # Four cards cost 0.05 in each of 24 hours: 4.80. 12.00 - 4.80 = 7.20, which is 1.80 per hour.
    costed = staff.get(days(**{f"cost-{H100}": "0.05"}))
    for text in ("$4.80", "$7.20", "$1.80 per GPU-hour"):
        assert text in costed.text, text


def test_use_that_nobody_paid_is_taken_off(staff: Visitor) -> None:
    supply = make_supply(1)
    org = open_org()
    credit(org, 4 * USD)  # one hour of two
    rental = rent(
        org,
        provider_ref=supply.provider.id,
        gpus=1,
        price_micro_h=4 * USD,
        provider_micro_h=3_400_000,
        accelerator=H100,
    )
    for hours in (2, 1):
        use(window(rental, hour_of(now()) - timedelta(hours=hours), 3600))
    (found,) = margins.margins(
        acting=principal_of(User.objects.get(email="staff@example.com")),
        from_at=now() - timedelta(days=1),
        to_at=now(),
        cost_micro_h={},
    )
    # 8.00 x 15 % = 1.20, less the 4.00 that nobody paid: the owner has its share all the same.
    assert found.partner.use == margins.Use(7200, 8 * USD, -2_800_000)
    assert (found.partner.margin_micro, found.partner.per_gpu_hour_micro) == (
        -2_800_000,
        -1_400_000,
    )


def test_margins_take_as_many_statements_for_many_cards(staff: Visitor) -> None:
    acting = principal_of(User.objects.get(email="staff@example.com"))

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            margins.margins(
                acting=acting,
                from_at=now() - timedelta(days=1),
                to_at=now(),
                cost_micro_h={},
            )
        return len(captured)

    rented(make_supply(1), gpus=1, price=USD, share=0, hours_ago=1)
    first = count()
    for card in ("nvidia-rtx-4090", "ascend-910b"):
        supply = make_supply(2, accelerator=card, ownership="owned")
        rented(supply, gpus=2, price=USD, share=0, hours_ago=1)
    assert count() == first


@pytest.mark.parametrize(
    "query",
    [
        "first=2026-01-02&last=2026-01-01",
        "first=2020-01-01",
        "first=soon",
        "first=0001-01-01&last=0001-01-01",
        f"cost-{H100}=-1",
        f"cost-{H100}=x",
    ],
)
def test_wrong_days_and_costs_are_refused(staff: Visitor, query: str) -> None:
    make_supply(1, ownership="owned")
    assert staff.get(f"/staff/economics?{query}").status_code == 422
    assert staff.get("/staff/economics?last=0001-01-01").status_code == 200
