"""What every hosted page needs: answers to the browser, and the card that a form names."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from devstack.stripe import checkout_page
from devstack.stripe.cards import BY_NUMBER, Card
from devstack.stripe.core import Simulator


@dataclass
class Page:
    status: int
    html: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class FormError(ValueError):
    """What the form says is wrong, in words for the customer."""


def missing() -> Page:
    """No such page."""
    return Page(404, checkout_page.notice("Not found", "There is no such page."))


def go(url: str) -> Page:
    """Send the browser on."""
    return Page(303, headers={"Location": url})


def read_card(sim: Simulator, form: dict[str, str]) -> tuple[Card, tuple[int, int], str]:
    """Card, (month, year) and name of a submitted form; FormError says what to correct."""
    number = re.sub(r"[\s-]", "", form.get("card_number", ""))
    if not number.isdecimal() or not _luhn(number):
        raise FormError("Your card number is invalid.")
    card = BY_NUMBER.get(number)
    if card is None:
        raise FormError(
            "Your card was declined. Your request was in test mode, but used a non test card."
        )
    month, year = (form.get(name, "").strip() for name in ("exp_month", "exp_year"))
    if not (month.isdecimal() and 1 <= int(month) <= 12 and re.fullmatch(r"(20)?\d\d", year)):
        raise FormError("Your card's expiration date is incomplete.")
    expires = int(month), 2000 + int(year[-2:])
    now = datetime.fromtimestamp(sim.now(), UTC)
    if expires[::-1] < (now.year, now.month):
        raise FormError("Your card's expiration date is in the past.")
    if not re.fullmatch(r"\d{3,4}", form.get("cvc", "").strip()):
        raise FormError("Your card's security code is incomplete.")
    return card, expires, form.get("name", "").strip()


def read_address(form: dict[str, str]) -> dict[str, str]:
    """Country and postal code of a submitted form; FormError without a country."""
    country = form.get("country", "").strip().upper()
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise FormError("Your billing country is incomplete.")
    return {"country": country, "postal_code": form.get("postal_code", "").strip()}


def _luhn(number: str) -> bool:
    digits = [int(d) for d in reversed(number)]
    total = sum(d if i % 2 == 0 else sum(divmod(d * 2, 10)) for i, d in enumerate(digits))
    return total % 10 == 0
