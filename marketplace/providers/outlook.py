"""All that an owner is shown about a card: :mod:`economics` worked out and rounded. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from marketplace.providers.economics import (
    HOURS_PER_YEAR,
    LIVES,
    Figure,
    Inputs,
    Method,
    book_value,
    check,
    check_price,
    costs,
    decimal_up,
    depreciation,
    depreciation_in,
    down,
    up,
)

# The columns of the table beside the utilisation that was given.
UTILISATIONS: Final = tuple(Decimal(text) for text in ("0.25", "0.5", "0.7", "0.85", "1"))


@dataclass(frozen=True)
class Row:
    """Full-cost prices of one way to write off, one for each utilisation of the table."""

    method: Method
    life_years: int
    prices_micro: tuple[int, ...]


def columns(given: Inputs) -> list[Decimal]:
    """The utilisations of the table: the usual ones, and the one that was given."""
    return sorted({*UTILISATIONS, given.utilisation})


def table(given: Inputs, utilisations: Sequence[Decimal]) -> list[Row]:
    """Every method over every life."""
    return [
        Row(
            method,
            years,
            tuple(up(found.full_cost_price(Fraction(share))) for share in utilisations),
        )
        for method in Method
        for years in LIVES
        for found in [costs(given, method, years)]
    ]


@dataclass(frozen=True)
class Year:
    """The card at the end of a year of its life, by both methods; year 0 is the purchase."""

    year: int
    straight_line_micro: int
    market_value_micro: int
    straight_line_micro_h: int | None  # what an hour of this year took off; None: year 0
    market_value_micro_h: int | None


def book(given: Inputs) -> list[Year]:
    """From the purchase to the end of its life."""

    def lost(method: Method, year: int) -> int | None:
        return up(depreciation_in(given, method, year)) if year else None

    return [
        Year(
            year,
            down(book_value(given, Method.STRAIGHT_LINE, year)),
            down(book_value(given, Method.MARKET_VALUE, year)),
            lost(Method.STRAIGHT_LINE, year),
            lost(Method.MARKET_VALUE, year),
        )
        for year in range(given.life_years + 1)
    ]


@dataclass(frozen=True)
class Point:
    """What an hour of the clock leaves when so much of the time is rented, in percent."""

    utilisation: int
    left_micro: int


def curve(given: Inputs, price_micro: int) -> list[Point]:
    """From never rented to always, in steps of five percent."""
    found = costs(given)
    return [
        Point(percent, down(found.left(price_micro, Fraction(percent, 100))))
        for percent in range(0, 101, 5)
    ]


def cash(given: Inputs, price_micro: int) -> list[int]:
    """What is in hand at the end of each year of its life, the purchase paid at its beginning and
    nothing sold: above zero it has paid for itself."""
    found = costs(given)
    yearly = (found.left(price_micro, Fraction(given.utilisation)) + found.depreciation) * (
        HOURS_PER_YEAR
    )
    return [down(yearly * year - given.purchase_micro) for year in range(given.life_years + 1)]


@dataclass(frozen=True)
class Outlook:
    """Micro-units, per hour unless it is a price (per GPU-hour) or a book value.

    break_even: a share; payback_years: years; None with the reason beside it, or without a price.
    """

    given: Inputs
    depreciation_micro: int
    straight_line_micro: int
    market_value_micro: int
    energy_rented_micro: int
    energy_idle_micro: int
    colocation_micro: int
    upkeep_micro: int
    idle_hour_micro: int
    rented_hour_micro: int
    full_cost_micro: int
    floor_price_micro: int
    full_cost_price_micro: int
    price_micro: int | None
    margin_micro: int | None
    break_even: str | None
    break_even_note: str
    payback_years: str | None
    payback_note: str
    utilisations: tuple[Decimal, ...]
    table: tuple[Row, ...]
    years: tuple[Year, ...]
    curve: tuple[Point, ...] = ()  # with a price
    cash_micro: tuple[int, ...] = ()  # the same


def outlook(given: Inputs, price_micro: int | None) -> Outlook:
    """For these figures, and for a price where one is given. InvalidRequest."""
    check(given)
    check_price(price_micro)
    found, share = costs(given), Fraction(given.utilisation)
    even = back = Figure(None)
    if price_micro is not None:
        even = found.break_even(price_micro)
        back = found.payback_years(given.purchase_micro, price_micro, share, given.life_years)
    shares = columns(given)
    return Outlook(
        given=given,
        depreciation_micro=up(found.depreciation),
        straight_line_micro=up(depreciation(given, Method.STRAIGHT_LINE, given.life_years)),
        market_value_micro=up(depreciation(given, Method.MARKET_VALUE, given.life_years)),
        energy_rented_micro=up(found.energy_rented),
        energy_idle_micro=up(found.energy_idle),
        colocation_micro=up(found.colocation),
        upkeep_micro=up(found.upkeep),
        idle_hour_micro=up(found.standing),
        rented_hour_micro=up(found.standing + found.extra),
        full_cost_micro=up(found.full_cost(share)),
        floor_price_micro=up(found.floor_price),
        full_cost_price_micro=up(found.full_cost_price(share)),
        price_micro=price_micro,
        margin_micro=None if price_micro is None else down(found.margin(price_micro, share)),
        break_even=_text(even, 4),
        break_even_note=even.why,
        payback_years=_text(back, 2),
        payback_note=back.why,
        utilisations=tuple(shares),
        table=tuple(table(given, shares)),
        years=tuple(book(given)),
        curve=tuple(curve(given, price_micro)) if price_micro else (),
        cash_micro=tuple(cash(given, price_micro)) if price_micro else (),
    )


def _text(figure: Figure, places: int) -> str | None:
    return None if figure.value is None else decimal_up(figure.value, places)
