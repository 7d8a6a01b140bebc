"""A rental's money from its first hour to its last: hold, start, stop, end.

Lock order: the rental's meter, then the tenant's account, which a whole team shares and which is
therefore taken last.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings

from billing.contracts import HoldView, PriceTerms
from billing.ledger.accounts import Purse, lock_purse
from billing.ledger.post import Entry, post
from billing.models import CauseType, RentalMeter, TransactionKind
from billing.rating.funds import FIRST_HOLD, paid_until
from billing.rating.rounding import hold_for
from kernel.clock import now
from kernel.errors import NotFound, Refusal
from kernel.money import CURRENCY, format_micro


def hold(*, org_ref: UUID, rental_ref: UUID, terms: PriceTerms) -> HoldView:
    """Hold the first hour of a rental; Refusal("insufficient_funds") when it passes the floor.

    A rental that has its hold already keeps it: nothing more is taken.
    """
    if terms.currency != CURRENCY:
        raise ValueError(f"prices are in {CURRENCY}, not {terms.currency}")
    existing = RentalMeter.objects.filter(rental_ref=rental_ref).first()
    if existing is not None:
        return _view(existing)
    needed = hold_for(terms.price_micro_h, FIRST_HOLD)
    meter = RentalMeter.objects.create(
        rental_ref=rental_ref,
        org_ref=org_ref,
        provider_ref=terms.provider_ref,
        currency=terms.currency,
        gpus=terms.gpus,
        price_micro_h=terms.price_micro_h,
        provider_micro_h=terms.provider_micro_h,
        accelerator=terms.accelerator,
        description=terms.description,
        held_micro=needed,
    )
    purse = lock_purse(org_ref)
    if needed > purse.available_micro:
        raise _insufficient(needed, purse)
    post([_move(TransactionKind.HOLD, purse, rental_ref, needed)])
    return _view(meter)


def end_rental(*, rental_ref: UUID) -> None:
    """Return what is left of the hold; nothing is charged for this rental any more."""
    meter = _lock(rental_ref)
    if meter.ended_at is not None:
        return
    rest = meter.held_micro
    meter.held_micro = 0
    meter.running_since = meter.paid_until = None
    meter.ended_at = now()
    meter.save(update_fields=["held_micro", "running_since", "paid_until", "ended_at"])
    if rest:
        purse = lock_purse(meter.org_ref)
        post([_move(TransactionKind.HOLD_RELEASE, purse, rental_ref, -rest)])


def meter_started(*, rental_ref: UUID, at: datetime) -> None:
    """The rental runs, and uses up its hold, from ``at`` on."""
    meter = _lock(rental_ref)
    if meter.running_since is not None or meter.ended_at is not None:
        return
    meter.running_since = at
    meter.paid_until = paid_until(
        rate_micro_h=meter.price_micro_h,
        held=meter.held_micro,
        running_since=at,
        charged_until=meter.charged_until,
    )
    meter.save(update_fields=["running_since", "paid_until"])


def meter_stopped(*, rental_ref: UUID) -> None:
    """The rental uses up nothing for now; its hold stays for the windows still to be settled."""
    meter = _lock(rental_ref)
    if meter.running_since is None:
        return
    meter.running_since = meter.paid_until = None
    meter.save(update_fields=["running_since", "paid_until"])


def _lock(rental_ref: UUID) -> RentalMeter:
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if meter is None:
        raise NotFound("rental")
    return meter


def _move(kind: TransactionKind, purse: Purse, rental_ref: UUID, amount: int) -> Entry:
    """``amount`` from the tenant into its hold; negative: back."""
    legs = ((purse.tenant, -amount), (purse.hold, amount))
    return Entry(kind, CauseType.RENTAL, rental_ref, legs)


def _insufficient(needed: int, purse: Purse) -> Refusal:
    available = max(purse.available_micro, 0)
    return Refusal(
        "insufficient_funds",
        f"The first hour costs {format_micro(needed)} {CURRENCY} and "
        f"{format_micro(available)} {CURRENCY} is available. Add credit and try again.",
        needed=format_micro(needed),
        available=format_micro(available),
        topup_url=f"{settings.GPUYARD_BASE_URL}/billing",
    )


def _view(meter: RentalMeter) -> HoldView:
    return HoldView(
        rental_ref=meter.rental_ref, held_micro=meter.held_micro, paid_until=meter.paid_until
    )
