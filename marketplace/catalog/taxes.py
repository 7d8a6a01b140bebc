"""Tax as people read it beside a price. Prices themselves never include it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from billing.contracts.tax import TaxPoint, TaxTerms
from kernel.money import format_micro

_MILLION: Final = 1_000_000
_REASONS: Final = {
    "reverse_charge": "reverse charge: you owe the tax yourself",
    "customer_exempt": "you are exempt",
    "not_collecting": "we collect no tax where you are",
    "not_subject_to_tax": "not subject to tax where you are",
    "zero_rated": "the rate is zero where you are",
}
_NONE: Final = (
    "Prices exclude tax. Tax that applies is added when credit is bought or an invoice is issued, "
    "never while the meter runs."
)


def percent(ppm: int) -> str:
    """A rate as percent without trailing zeros: 19, 8.875, 0."""
    return format((Decimal(ppm) / 10_000).normalize(), "f")


def reason_text(reason: str) -> str:
    """Stripe's word for why as a sentence's end; the word itself where there is none."""
    return _REASONS.get(reason, reason.replace("_", " "))


def describe_tax(terms: TaxTerms | None, *, per_hour_micro: int) -> dict[str, Any]:
    """The tax of a quote. ``None``: the rate is not known. tax_point says when it is added."""
    if terms is None:
        return {
            "included": False,
            "tax_point": None,
            "rate_percent": None,
            "per_hour": None,
            "text": "Prices exclude tax. Your tax rate is not known yet: give a billing address.",
        }
    on_use = terms.point == TaxPoint.USE
    # Rounded up, as the hold for the first hour is.
    per_hour = -(-per_hour_micro * terms.ppm // _MILLION) if on_use else 0
    return {
        "included": False,
        # "top_up" is what the field said before there was a choice.
        "tax_point": TaxPoint.USE.value if on_use else "top_up",
        "rate_percent": None if terms.point == TaxPoint.NONE else percent(terms.ppm),
        "per_hour": format_micro(per_hour),
        "text": _text(terms),
    }


def _text(terms: TaxTerms) -> str:
    if terms.point == TaxPoint.NONE:
        return _NONE
    when = "with each charge" if terms.point == TaxPoint.USE else "when credit is bought"
    if not terms.ppm:
        return f"Prices exclude tax. None is added: {reason_text(terms.reason)}."
    return f"Prices exclude tax. {percent(terms.ppm)} % is added {when}."
