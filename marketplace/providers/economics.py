"""What a card costs its owner by the hour, and the prices at which it pays. PURE: figures in, out.

Everything is worked out in exact fractions of a micro-unit and rounded once, when it is shown, in
the direction that promises the owner less: costs, prices, utilisations and times up; book values
and margins down. So parts that are shown may add up to a micro-unit or two more than their sum.

A year has 8,760 hours and a month 730, a twelfth of it, as everywhere on the platform (the price of
a disk is the other place). Interest, tax and what a card earns beside rentals are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import ceil, floor
from typing import Final

from kernel.errors import InvalidRequest
from kernel.money import CURRENCY, MICRO, format_micro

HOURS_PER_YEAR: Final = 8760
HOURS_PER_MONTH: Final = 730
LIVES: Final = (3, 4, 5, 8)
MAX_FEE_BPS: Final = 5000  # what staff may agree at most, see models/fee.py
BASIS_POINTS: Final = 10_000
# Above these a figure is a slip of the decimal point. They are far from any card there is.
MAX_PURCHASE_MICRO: Final = 1_000_000 * MICRO
MAX_WATTS: Final = 20_000
MAX_KWH_MICRO: Final = 10 * MICRO
MAX_COLOCATION_MICRO: Final = 100_000 * MICRO
MAX_PUE: Final = 5
MAX_PRICE_MICRO: Final = 1_000 * MICRO


class Method(StrEnum):
    """How the purchase price becomes a cost per hour."""

    STRAIGHT_LINE = "straight_line"  # the same every year, down to the residual
    MARKET_VALUE = "market_value"  # what the market takes off each year: a share of what is left


@dataclass(frozen=True)
class Inputs:
    """One GPU with its share of the server. Those with a value here are where people start from:
    no residual, a third of the market value gone each year, no costs that nobody named.

    residual, upkeep: shares of the purchase price, upkeep per year. decline: share of what is left
    of the value, per year. pue: what the building takes for each watt of the machine.
    """

    purchase_micro: int
    watts_load: Decimal
    watts_idle: Decimal
    kwh_micro: int
    utilisation: Decimal
    life_years: int = 4
    method: Method = Method.STRAIGHT_LINE
    residual: Decimal = Decimal(0)
    decline: Decimal = Decimal("0.33")
    pue: Decimal = Decimal("1.4")
    colocation_micro: int = 0  # per month
    upkeep: Decimal = Decimal(0)
    fee_bps: int = 0


@dataclass(frozen=True)
class Figure:
    """A figure that may not exist; why: what hinders it, or what to know about it."""

    value: Fraction | None
    why: str = ""


@dataclass(frozen=True)
class Costs:
    """Micro-units per hour, exact. depreciation, colocation and upkeep run whether rented or not;
    one of the two energies runs at any time."""

    depreciation: Fraction
    energy_rented: Fraction
    energy_idle: Fraction
    colocation: Fraction
    upkeep: Fraction
    kept: Fraction  # the owner's part of a price, after the platform's fee

    @property
    def standing(self) -> Fraction:
        """What an hour costs in which nobody rents."""
        return self.depreciation + self.colocation + self.upkeep + self.energy_idle

    @property
    def extra(self) -> Fraction:
        """What it costs more when somebody does."""
        return self.energy_rented - self.energy_idle

    def full_cost(self, utilisation: Fraction) -> Fraction:
        """Of a rented hour, which carries the idle ones."""
        return self.standing / utilisation + self.extra

    @property
    def floor_price(self) -> Fraction:
        """Below it a rented hour loses money against standing idle."""
        return self.extra / self.kept

    def full_cost_price(self, utilisation: Fraction) -> Fraction:
        """The price that covers everything, the fee included."""
        return self.full_cost(utilisation) / self.kept

    def margin(self, price_micro: int, utilisation: Fraction) -> Fraction:
        """What a rented hour leaves after all costs."""
        return price_micro * self.kept - self.full_cost(utilisation)

    def left(self, price_micro: int, utilisation: Fraction) -> Fraction:
        """What an hour of the clock leaves, rented or not: below zero under break-even."""
        return utilisation * (price_micro * self.kept - self.extra) - self.standing

    def break_even(self, price_micro: int) -> Figure:
        """The utilisation at which this price covers everything."""
        gain = price_micro * self.kept - self.extra
        if self.standing == 0 and gain >= 0:
            return Figure(Fraction(0), "Standing idle costs nothing.")
        if gain <= 0:
            return Figure(
                None,
                "After the fee, this price pays no more than the energy that renting takes. "
                "Ask for more than the floor price.",
            )
        needed = self.standing / gain
        if needed > 1:
            least = shown_price(self.full_cost_price(Fraction(1)))
            return Figure(
                None,
                "Even rented every hour, this price does not cover the full cost. "
                f"It would take {least} per hour.",
            )
        return Figure(needed)

    def payback_years(
        self, purchase_micro: int, price_micro: int, utilisation: Fraction, life_years: int
    ) -> Figure:
        """When what is earned over the running costs has paid for the card; nothing is sold."""
        running = self.standing - self.depreciation + utilisation * self.extra
        earned = utilisation * price_micro * self.kept - running
        if earned <= 0:
            return Figure(
                None,
                "At this price and utilisation the card earns no more than it costs to run. "
                "Raise the price, or find more renters.",
            )
        years = purchase_micro / earned / HOURS_PER_YEAR
        late = years > life_years
        return Figure(years, f"After the end of its life of {life_years} years." if late else "")


def check(given: Inputs) -> None:
    """InvalidRequest with a message for each figure that cannot be."""
    wrong: dict[str, list[str]] = {}

    def need(name: str, right: bool, text: str) -> None:
        if not right:
            wrong[name] = [text]

    def most(limit_micro: int) -> str:
        return f"{format_micro(limit_micro, places=0)} {CURRENCY}"

    need(
        "purchase_price",
        0 < given.purchase_micro <= MAX_PURCHASE_MICRO,
        f"more than 0 and at most {most(MAX_PURCHASE_MICRO)}: one GPU with its share of the server",
    )
    need("watts_load", 0 <= given.watts_load <= MAX_WATTS, f"from 0 to {MAX_WATTS}")
    need(
        "watts_idle",
        0 <= given.watts_idle <= given.watts_load,
        "from 0 to the watts under load: an idle card takes no more",
    )
    need("kwh_price", 0 <= given.kwh_micro <= MAX_KWH_MICRO, f"from 0 to {most(MAX_KWH_MICRO)}")
    need(
        "utilisation",
        0 < given.utilisation <= 1,
        "more than 0 and at most 1, which is rented all the time: without a rented hour none "
        "could carry the costs",
    )
    need("life_years", given.life_years in LIVES, f"one of {', '.join(map(str, LIVES))}")
    need("residual", 0 <= given.residual < 1, "from 0 to less than 1: a share of what was paid")
    need("decline", 0 <= given.decline < 1, "from 0 to less than 1: a share of what is left")
    need("pue", 1 <= given.pue <= MAX_PUE, f"from 1, which is no overhead, to {MAX_PUE}")
    need(
        "colocation",
        0 <= given.colocation_micro <= MAX_COLOCATION_MICRO,
        f"from 0 to {most(MAX_COLOCATION_MICRO)} per GPU and month",
    )
    need("upkeep", 0 <= given.upkeep <= 1, "from 0 to 1: a share of what was paid, per year")
    need("fee_bps", 0 <= given.fee_bps <= MAX_FEE_BPS, f"from 0 to {MAX_FEE_BPS}")
    if wrong:
        raise InvalidRequest(wrong)


def check_price(price_micro: int | None) -> None:
    """InvalidRequest unless it is a price that could be asked, or none."""
    if price_micro is not None and not 0 < price_micro <= MAX_PRICE_MICRO:
        text = f"more than 0 and at most {format_micro(MAX_PRICE_MICRO)} {CURRENCY} per GPU-hour"
        raise InvalidRequest({"price": [text]})


def book_value(given: Inputs, method: Method, years: int) -> Fraction:
    """What the card is worth after so many years, at most its life."""
    paid = Fraction(given.purchase_micro)
    if method is Method.MARKET_VALUE:
        return paid * (1 - Fraction(given.decline)) ** years
    return paid - paid * (1 - Fraction(given.residual)) * years / given.life_years


def depreciation(given: Inputs, method: Method, years: int) -> Fraction:
    """Per hour: the mean over a life of so many years."""
    paid = Fraction(given.purchase_micro)
    if method is Method.MARKET_VALUE:
        lost = paid - book_value(given, method, years)
    else:
        lost = paid * (1 - Fraction(given.residual))
    return lost / years / HOURS_PER_YEAR


def depreciation_in(given: Inputs, method: Method, year: int) -> Fraction:
    """Per hour of that year, the first being 1."""
    lost = book_value(given, method, year - 1) - book_value(given, method, year)
    return lost / HOURS_PER_YEAR


def costs(given: Inputs, method: Method | None = None, years: int | None = None) -> Costs:
    """The costs of an hour; by another method or over another life where they are given."""
    paid = Fraction(given.purchase_micro)
    per_watt = Fraction(given.pue) * given.kwh_micro / 1000
    return Costs(
        depreciation=depreciation(given, method or given.method, years or given.life_years),
        energy_rented=Fraction(given.watts_load) * per_watt,
        energy_idle=Fraction(given.watts_idle) * per_watt,
        colocation=Fraction(given.colocation_micro) / HOURS_PER_MONTH,
        upkeep=paid * Fraction(given.upkeep) / HOURS_PER_YEAR,
        kept=1 - Fraction(given.fee_bps, BASIS_POINTS),
    )


def up(exact: Fraction) -> int:
    """Costs and prices, in whole micro-units."""
    return ceil(exact)


def down(exact: Fraction) -> int:
    """Values and margins, in whole micro-units."""
    return floor(exact)


def shown_price(exact: Fraction) -> str:
    """A price as text."""
    return f"{format_micro(up(exact))} {CURRENCY}"


def decimal_up(exact: Fraction, places: int) -> str:
    """A share or a time as a decimal string, rounded up."""
    step: int = 10**places
    whole, rest = divmod(ceil(exact * step), step)
    return f"{whole}.{rest:0{places}d}"
