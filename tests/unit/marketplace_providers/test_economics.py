"""Economics of a card: cases worked out by hand, and what must hold for any card."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidRequest
from marketplace.models import fee
from marketplace.providers import economics, outlook
from marketplace.providers.economics import Inputs, Method

USD = 1_000_000
# 26,280 USD is 3 x 8,760: over three years, one USD per hour.
CARD = Inputs(
    purchase_micro=26_280 * USD,
    watts_load=Decimal(1000),
    watts_idle=Decimal(100),
    kwh_micro=200_000,
    utilisation=Decimal("0.8"),
    life_years=3,
    method=Method.STRAIGHT_LINE,
    residual=Decimal(0),
    decline=Decimal("0.5"),
    pue=Decimal("1.5"),
    colocation_micro=73 * USD,
    upkeep=Decimal("0.05"),
    fee_bps=1500,
)
U = Fraction(4, 5)


def test_each_part_of_an_hour_by_hand() -> None:
    found = economics.costs(CARD)
    assert found.depreciation == 1_000_000  # 26,280 / 3 / 8,760
    assert found.energy_rented == 300_000  # 1 kW x 1.5 x 0.20
    assert found.energy_idle == 30_000  # 0.1 kW x 1.5 x 0.20
    assert found.colocation == 100_000  # 73 / 730
    assert found.upkeep == 150_000  # 26,280 x 5 % = 1,314 a year, / 8,760
    assert found.standing == 1_280_000  # 1.00 + 0.10 + 0.15 + 0.03
    assert found.extra == 270_000  # 0.30 - 0.03


def test_prices_by_hand() -> None:
    found = economics.costs(CARD)
    assert found.full_cost(U) == 1_870_000  # 1.28 / 0.8 + 0.27
    assert found.full_cost_price(U) == 2_200_000  # 1.87 / 0.85
    assert economics.up(found.floor_price) == 317_648  # 0.27 / 0.85 = 0.3176470…, up
    assert found.margin(2_200_000, U) == 0
    # 2.00 x 0.85 - 1.87 = -0.17: each rented hour loses that.
    assert economics.down(found.margin(2_000_000, U)) == -170_000


def test_break_even_by_hand() -> None:
    found = economics.costs(CARD)
    # 1.28 / (2.00 x 0.85 - 0.27) = 1.28 / 1.43 = 128 / 143 = 0.89510…
    assert found.break_even(2_000_000).value == Fraction(128, 143)
    assert economics.decimal_up(Fraction(128, 143), 4) == "0.8952"
    # 1.28 / (1.55 - 0.27) = 1: the full-cost price of u = 1 is 1.55 / 0.85.
    assert found.break_even(1_823_530).value is not None, "1.55 / 0.85 = 1.8235294…, rounded up"
    below = found.break_even(1_823_529)
    assert below.value is None
    assert "1.82353 USD" in below.why
    # 0.27 / 0.85 = 0.3176470…: below, a rented hour costs more than it brings.
    assert "floor price" in found.break_even(317_647).why
    assert "Even rented every hour" in found.break_even(317_648).why


def test_payback_by_hand() -> None:
    found = economics.costs(CARD)
    # Earned 0.8 x 2.20 x 0.85 = 1.496; to run it takes 0.10 + 0.15 + 0.03 + 0.8 x 0.27 = 0.496.
    # 26,280 / 1.00 = 26,280 hours are three years.
    assert found.payback_years(CARD.purchase_micro, 2_200_000, U, 3) == economics.Figure(
        Fraction(3)
    )
    # 0.8 x 1.70 - 0.496 = 0.864: 3 / 0.864 = 3.4722… years.
    late = found.payback_years(CARD.purchase_micro, 2_000_000, U, 3)
    assert late.value == Fraction(3000, 864)
    assert late.why == "After the end of its life of 3 years."
    # 0.496 / 0.8 / 0.85 = 0.7294…: here it earns exactly what it costs to run, or less.
    assert found.payback_years(CARD.purchase_micro, 729_411, U, 3).value is None
    assert found.payback_years(CARD.purchase_micro, 729_412, U, 3).value is not None


def test_market_value_by_hand() -> None:
    falling = replace(CARD, method=Method.MARKET_VALUE)
    # Half of it each year: 26,280, 13,140, 6,570, 3,285.
    values = [economics.book_value(falling, Method.MARKET_VALUE, year) for year in range(4)]
    assert values == [26_280 * USD, 13_140 * USD, 6_570 * USD, 3_285 * USD]
    per_hour = [economics.depreciation_in(falling, Method.MARKET_VALUE, n) for n in (1, 2, 3)]
    assert per_hour == [1_500_000, 750_000, 375_000]  # 13,140 / 8,760, then half of it, and again
    assert economics.costs(falling).depreciation == 875_000  # 22,995 / 3 / 8,760, their mean
    assert economics.costs(falling, years=4).depreciation == 703_125  # 24,637.5 / 4 / 8,760


def test_a_residual_is_not_written_off() -> None:
    kept = replace(CARD, residual=Decimal("0.1"))
    assert economics.costs(kept).depreciation == 900_000
    assert economics.book_value(kept, Method.STRAIGHT_LINE, 3) == 2_628 * USD


def test_the_fee_is_on_top_of_the_cost() -> None:
    free, half = (economics.costs(replace(CARD, fee_bps=bps)) for bps in (0, 5000))
    assert free.full_cost_price(U) == 1_870_000
    assert free.floor_price == 270_000
    assert half.full_cost_price(U) == 3_740_000
    assert half.floor_price == 540_000


def test_a_card_that_costs_nothing_while_idle_pays_from_the_first_hour() -> None:
    free = economics.Costs(*(Fraction(0),) * 5, kept=Fraction(1))
    assert free.break_even(1).value == 0
    warm = replace(free, energy_rented=Fraction(100))
    assert warm.break_even(99).value is None
    assert warm.break_even(100).value == 0


def test_the_table_has_every_life_by_both_methods() -> None:
    shares = outlook.columns(CARD)
    assert shares == [Decimal(text) for text in ("0.25", "0.5", "0.7", "0.8", "0.85", "1")]
    rows = {(row.method, row.life_years): row.prices_micro for row in outlook.table(CARD, shares)}
    assert len(rows) == 8
    assert rows[Method.STRAIGHT_LINE, 3][3] == 2_200_000
    # Over eight years 0.375 per hour: (0.655 / 0.8 + 0.27) / 0.85 = 1.2808823…
    assert rows[Method.STRAIGHT_LINE, 8][3] == 1_280_883
    # 0.875 per hour: (1.155 / 0.8 + 0.27) / 0.85 = 2.0161764…
    assert rows[Method.MARKET_VALUE, 3][3] == 2_016_177


def test_the_book_year_by_year() -> None:
    first, *_between, last = outlook.book(CARD)
    assert first == outlook.Year(0, 26_280 * USD, 26_280 * USD, None, None)
    assert last == outlook.Year(3, 0, 3_285 * USD, 1_000_000, 375_000)


def test_what_is_shown_is_rounded_against_the_owner() -> None:
    third = Fraction(1, 3)
    assert (economics.up(third), economics.down(third), economics.down(-third)) == (1, 0, -1)
    assert economics.decimal_up(third, 2) == "0.34"
    assert economics.decimal_up(Fraction(2), 2) == "2.00"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("purchase_price", {"purchase_micro": 0}),
        ("purchase_price", {"purchase_micro": 10**12 + 1}),
        ("watts_load", {"watts_load": Decimal(20_001)}),
        ("watts_idle", {"watts_idle": Decimal(-1)}),
        ("watts_idle", {"watts_idle": Decimal("1000.1")}),
        ("kwh_price", {"kwh_micro": -1}),
        ("kwh_price", {"kwh_micro": 10 * USD + 1}),
        ("utilisation", {"utilisation": Decimal(0)}),
        ("utilisation", {"utilisation": Decimal("1.000001")}),
        ("life_years", {"life_years": 6}),
        ("residual", {"residual": Decimal(1)}),
        ("residual", {"residual": Decimal("-0.1")}),
        ("decline", {"decline": Decimal(1)}),
        ("pue", {"pue": Decimal("0.99")}),
        ("pue", {"pue": Decimal("5.1")}),
        ("colocation", {"colocation_micro": -1}),
        ("upkeep", {"upkeep": Decimal("1.1")}),
        ("fee_bps", {"fee_bps": 5001}),
        ("fee_bps", {"fee_bps": -1}),
    ],
)
def test_figures_that_cannot_be_are_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        economics.check(replace(CARD, **changes))
    assert list(refused.value.extra["errors"]) == [field]


def test_the_edges_are_allowed() -> None:
    economics.check(CARD)
    economics.check(replace(CARD, utilisation=Decimal(1), watts_idle=Decimal(1000), fee_bps=5000))
    economics.check_price(None)
    economics.check_price(1)
    for wrong in (0, -1, 1000 * USD + 1):
        with pytest.raises(InvalidRequest):
            economics.check_price(wrong)


def test_the_highest_fee_is_the_one_that_staff_may_agree() -> None:
    assert economics.MAX_FEE_BPS == fee.MAX_FEE_BPS


def shares(least: str, most: str) -> st.SearchStrategy[Decimal]:
    return st.decimals(least, most, places=4)


# A busy machine draws slowly, which says nothing about the arithmetic.
ANY_PACE = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CARDS = st.builds(
    Inputs,
    purchase_micro=st.integers(1, 100_000 * USD),
    watts_load=shares("700", "2000"),
    watts_idle=shares("0", "700"),
    kwh_micro=st.integers(0, USD),
    utilisation=shares("0.0001", "1"),
    life_years=st.sampled_from(economics.LIVES),
    method=st.sampled_from(Method),
    residual=shares("0", "0.9999"),
    decline=shares("0", "0.9999"),
    pue=shares("1", "3"),
    colocation_micro=st.integers(0, 1000 * USD),
    upkeep=shares("0", "1"),
    fee_bps=st.integers(0, 5000),
)


@ANY_PACE
@given(card=CARDS, other=shares("0.0001", "1"))
def test_cost_falls_as_utilisation_rises(card: Inputs, other: Decimal) -> None:
    found = economics.costs(card)
    assume(found.standing > 0)
    low, high = sorted([Fraction(card.utilisation), Fraction(other)])
    assume(low < high)
    assert found.full_cost(high) < found.full_cost(low)
    assert found.full_cost_price(high) < found.full_cost_price(low)


@ANY_PACE
@given(card=CARDS)
def test_break_even_at_the_full_cost_price_of_a_utilisation_is_that_utilisation(
    card: Inputs,
) -> None:
    economics.check(card)
    found, share = economics.costs(card), Fraction(card.utilisation)
    assume(found.standing > 0)
    exact = found.full_cost_price(share)
    # The price is a whole number of micro-units, rounded up: the share it needs is no greater, and
    # one micro-unit less would need more.
    at = found.break_even(economics.up(exact)).value
    assert at is not None
    assert at <= share
    below = found.break_even(economics.up(exact) - 1).value
    assert below is None or below > share
    assert economics.down(found.margin(economics.up(exact), share)) >= 0


@ANY_PACE
@given(card=CARDS)
def test_the_floor_is_never_above_the_full_cost_price(card: Inputs) -> None:
    found = economics.costs(card)
    assert 0 <= found.floor_price <= found.full_cost_price(Fraction(1))
    assert found.full_cost_price(Fraction(1)) <= found.full_cost_price(Fraction(card.utilisation))


@ANY_PACE
@given(card=CARDS)
def test_the_years_sum_to_what_was_lost(card: Inputs) -> None:
    paid, life = Fraction(card.purchase_micro), card.life_years
    hours = economics.HOURS_PER_YEAR
    ends = {
        Method.STRAIGHT_LINE: paid * Fraction(card.residual),
        Method.MARKET_VALUE: paid * (1 - Fraction(card.decline)) ** life,
    }
    for method, end in ends.items():
        each = [economics.depreciation_in(card, method, year) for year in range(1, life + 1)]
        assert sum(each) * hours == paid - end
        assert sum(each) / life == economics.depreciation(card, method, life)
        assert economics.book_value(card, method, life) == end
    steady = [economics.depreciation_in(card, Method.STRAIGHT_LINE, n) for n in (1, life)]
    assert steady[0] == steady[1]


@ANY_PACE
@given(card=CARDS, price=st.integers(1, 20 * USD))
def test_a_price_pays_back_within_the_life_only_if_it_covers_what_is_lost(
    card: Inputs, price: int
) -> None:
    """Straight line, no residual: paid back by the end of its life is the same as no loss."""
    plain = replace(card, method=Method.STRAIGHT_LINE, residual=Decimal(0))
    found, share = economics.costs(plain), Fraction(plain.utilisation)
    back = found.payback_years(plain.purchase_micro, price, share, plain.life_years)
    pays = back.value is not None and back.value <= plain.life_years
    assert pays == (found.margin(price, share) >= 0)
    assert pays == (back.value is not None and not back.why)


def test_all_that_is_shown_by_hand() -> None:
    shown = outlook.outlook(replace(CARD, fee_bps=1500), 2_000_000)
    parts = (
        *(shown.depreciation_micro, shown.energy_rented_micro, shown.energy_idle_micro),
        *(shown.colocation_micro, shown.upkeep_micro, shown.idle_hour_micro),
    )
    assert parts == (1_000_000, 300_000, 30_000, 100_000, 150_000, 1_280_000)
    assert shown.rented_hour_micro == 1_550_000  # 1.28 + 0.27
    assert (shown.straight_line_micro, shown.market_value_micro) == (1_000_000, 875_000)
    assert (shown.full_cost_micro, shown.full_cost_price_micro) == (1_870_000, 2_200_000)
    assert (shown.floor_price_micro, shown.margin_micro) == (317_648, -170_000)
    assert (shown.break_even, shown.payback_years) == ("0.8952", "3.48")
    assert shown.payback_note == "After the end of its life of 3 years."


def test_without_a_price_there_is_nothing_to_break_even_at() -> None:
    shown = outlook.outlook(CARD, None)
    assert (shown.price_micro, shown.margin_micro, shown.break_even) == (None, None, None)
    assert (shown.payback_years, shown.break_even_note) == (None, "")
    with pytest.raises(InvalidRequest):
        outlook.outlook(CARD, 0)
    with pytest.raises(InvalidRequest):
        outlook.outlook(replace(CARD, life_years=7), None)


@ANY_PACE
@given(card=CARDS, price=st.integers(1, 20 * USD))
def test_the_curve_crosses_nothing_at_break_even_and_the_cash_at_payback(
    card: Inputs, price: int
) -> None:
    found, share = economics.costs(card), Fraction(card.utilisation)
    even = found.break_even(price).value
    if even is not None:
        assert found.left(price, even) == 0 or (even == 0 and found.left(price, even) >= 0)
    assert found.left(price, share) == found.margin(price, share) * share
    shown = outlook.outlook(card, price)
    assert [one.utilisation for one in shown.curve] == list(range(0, 101, 5))
    assert shown.cash_micro[0] == -card.purchase_micro
    back = found.payback_years(card.purchase_micro, price, share, card.life_years).value
    for year, cash in enumerate(shown.cash_micro):
        if back is None or year < back:
            assert cash < 0
        else:
            assert cash >= 0
