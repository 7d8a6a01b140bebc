"""Tax on use: every rounding of it, in one place. Integers only; pure.

Money is in micro-units; a rate is in parts per million of the net. As with the charge itself, tax
is the floor of a cumulative amount and each tick takes a difference of two of them, so ticked once,
hourly or each second the tax is the same. It is on what the renter pays: use that the platform
bears is asked of nobody, and so is its tax.
"""

from __future__ import annotations

from billing.rating.rounding import HOUR

MILLION = 1_000_000


def tax_on(net_micro: int, ppm: int) -> int:
    """The tax on all that a renter paid for one meter so far, rounded down once in a lifetime."""
    return net_micro * ppm // MILLION


def with_tax(net_micro: int, ppm: int) -> int:
    """What must be held so that ``net_micro`` more can be charged whatever was charged before."""
    return net_micro - (-net_micro * ppm // MILLION)


def net_paid_by(gross_micro: int, ppm: int) -> int:
    """The largest net that certainly fits into ``gross_micro`` with its tax."""
    return gross_micro * MILLION // (MILLION + ppm)


def returned(credited_micro: int, paid_micro: int, ppm: int) -> int:
    """The tax that goes back with all credits of a meter: of everything, exactly everything; never
    more than was taken."""
    return tax_on(min(credited_micro, paid_micro), ppm)


def sql_tax(net: str, ppm: str) -> str:
    """:func:`tax_on` as SQL. In two parts, so that no lifetime's charge passes a bigint."""
    return f"(({net}) / {MILLION} * {ppm} + mod({net}, {MILLION}) * {ppm} / {MILLION})"


def sql_with_tax(net: str, ppm: str) -> str:
    """:func:`with_tax` as SQL, for amounts of hours and not of lifetimes."""
    return f"(({net}) + (({net}) * {ppm} + {MILLION - 1}) / {MILLION})"


def sql_seconds(held: str, price: str, ppm: str) -> str:
    """The seconds that a hold certainly pays, tax included, as SQL."""
    return f"(({held}) * {MILLION} / ({MILLION} + {ppm}) * {HOUR} / {price})"
