"""The figures of a card that its owner keeps, so that its floor price stands beside its price.

One set for each card type. The platform's fee is none of them: it is the owner's of the day.
Actions join the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from kernel.clock import now
from kernel.errors import NotFound
from marketplace.accounts.access import Principal, visible
from marketplace.models import CardCost
from marketplace.providers.economics import Inputs, Method, check, costs, down, up
from marketplace.providers.onboard import own_provider, record
from provisioner import facade as provisioner

_KEPT: Final = tuple(one.name for one in fields(Inputs) if one.name != "fee_bps")
_WHOLE: Final = frozenset({"purchase_micro", "kwh_micro", "colocation_micro", "life_years"})


@dataclass(frozen=True)
class SavedCost:
    """``given``: without a fee, which is the reader's to fill in."""

    accelerator: str
    given: Inputs
    changed_at: datetime


@dataclass(frozen=True)
class Priced:
    """What a price means by an owner's own figures, in micro-units per GPU-hour. margin: what a
    rented hour leaves after all costs; None without a price."""

    floor_micro: int
    full_cost_micro: int
    margin_micro: int | None
    below_floor: bool


def save(*, acting: Principal, accelerator: str, given: Inputs) -> SavedCost:
    """Keep these figures for a card type, in place of others. NotFound for whoever never applied,
    and for what is no card type; InvalidRequest for a figure that cannot be."""
    provider = own_provider(acting)
    if accelerator not in {card.slug for card in provisioner.accelerators()}:
        raise NotFound("card type")
    check(given)
    figures = {name: _kept(name, getattr(given, name)) for name in _KEPT}
    row, _created = CardCost.objects.update_or_create(
        provider=provider,
        accelerator=accelerator,
        defaults={"figures": figures, "changed_at": now()},
    )
    record(acting, "card_cost.save", accelerator)
    return _saved(row)


def forget(*, acting: Principal, accelerator: str) -> None:
    """NotFound where none are kept."""
    gone, _rows = visible(CardCost, acting).filter(accelerator=accelerator).delete()
    if not gone:
        raise NotFound("card cost")
    record(acting, "card_cost.forget", accelerator)


def saved(acting: Principal) -> dict[str, SavedCost]:
    """What the acting owner keeps, by card type; nothing for whoever never applied."""
    rows = visible(CardCost, acting).order_by("accelerator")
    return {row.accelerator: _saved(row) for row in rows}


def priced(given: Inputs, fee_bps: int, price_micro: int | None) -> Priced:
    """A price, or none yet, against these figures."""
    found, share = costs(replace(given, fee_bps=fee_bps)), Fraction(given.utilisation)
    floor = up(found.floor_price)
    return Priced(
        floor_micro=floor,
        full_cost_micro=up(found.full_cost_price(share)),
        margin_micro=down(found.margin(price_micro, share)) if price_micro else None,
        below_floor=price_micro is not None and 0 < price_micro < floor,
    )


def _kept(name: str, value: Any) -> Any:
    return value if name in _WHOLE else str(value)


def _saved(row: CardCost) -> SavedCost:
    return SavedCost(
        row.accelerator,
        Inputs(**{name: _read(name, row.figures[name]) for name in _KEPT}),
        row.changed_at,
    )


def _read(name: str, kept: Any) -> Any:
    if name in _WHOLE:
        return kept
    return Method(kept) if name == "method" else Decimal(kept)
