"""A rental's money from its first hour to its last: hold, start, stop, end.

Lock order: the rental's meter, then the tenant's account, which a whole team shares and which is
therefore taken last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings

from billing.contracts import HoldView, PriceTerms
from billing.ledger.accounts import Purse, lock_purse
from billing.ledger.post import Entry, post
from billing.models import CauseType, RentalMeter, TransactionKind
from billing.payments.tax import tax_terms
from billing.rating.funds import FIRST_HOLD, paid_until
from billing.rating.rounding import hold_for
from billing.rating.tax import with_tax
from kernel.clock import now
from kernel.errors import NotFound, Refusal
from kernel.money import CURRENCY, format_micro


def hold(*, org_ref: UUID, rental_ref: UUID, terms: PriceTerms) -> HoldView:
    """Hold the first hour of a rental, with tax where that is due on use.

    Refusal("insufficient_funds") when it passes the floor; InvalidRequest("billing_address") when
    the tax is not known.

    A rental that has its hold already keeps it: nothing more is taken. One that ended and starts
    again holds anew, at the price that was fixed when it was rented.
    """
    if terms.currency != CURRENCY:
        raise ValueError(f"prices are in {CURRENCY}, not {terms.currency}")
    existing = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if existing is not None:
        return _view(existing) if existing.ended_at is None else _hold_again(existing)
    tax = tax_terms(org_ref, on_use=True)
    needed = _first_hour(terms.price_micro_h, tax.ppm)
    meter = RentalMeter.objects.create(
        rental_ref=rental_ref,
        kind=terms.kind,
        org_ref=org_ref,
        provider_ref=terms.provider_ref,
        currency=terms.currency,
        gpus=terms.gpus,
        price_micro_h=terms.price_micro_h,
        provider_micro_h=terms.provider_micro_h,
        tax_point=tax.point,
        tax_ppm=tax.ppm,
        accelerator=terms.accelerator,
        description=terms.description,
        round=1,
        held_micro=needed,
    )
    purse = lock_purse(org_ref)
    if needed > purse.available_micro:
        raise _insufficient(needed, purse)
    post([_move(TransactionKind.HOLD, purse, meter, needed)])
    return _view(meter)


def check_affordable(*, org_ref: UUID, price_micro_h: int) -> None:
    """The refusals of :func:`hold` when the first hour could not be held now; holds nothing."""
    needed = _first_hour(price_micro_h, tax_terms(org_ref, on_use=True).ppm)
    purse = lock_purse(org_ref)
    if needed > purse.available_micro:
        raise _insufficient(needed, purse)


def _hold_again(meter: RentalMeter) -> HoldView:
    needed = _first_hour(meter.price_micro_h, meter.tax_ppm)
    purse = lock_purse(meter.org_ref)
    if needed > purse.available_micro:
        raise _insufficient(needed, purse)
    meter.ended_at = None
    meter.round += 1
    meter.held_micro = needed
    meter.save(update_fields=["ended_at", "round", "held_micro"])
    post([_move(TransactionKind.HOLD, purse, meter, needed)])
    return _view(meter)


def end_rental(*, rental_ref: UUID) -> None:
    """Return what is left of the hold; nothing is charged unless it is held again.

    A rental that never held anything, as one that left the queue, has nothing to return.
    """
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if meter is None or meter.ended_at is not None:
        return
    rest = meter.held_micro
    meter.held_micro = 0
    meter.running_since = meter.paid_until = None
    meter.ended_at = now()
    meter.save(update_fields=["held_micro", "running_since", "paid_until", "ended_at"])
    if rest:
        purse = lock_purse(meter.org_ref)
        post([_move(TransactionKind.HOLD_RELEASE, purse, meter, -rest)])


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
        tax_ppm=meter.tax_ppm,
    )
    meter.save(update_fields=["running_since", "paid_until"])


def meter_stopped(*, rental_ref: UUID) -> None:
    """The rental uses up nothing for now; its hold stays for the windows still to be settled."""
    meter = _lock(rental_ref)
    if meter.running_since is None:
        return
    meter.running_since = meter.paid_until = None
    meter.save(update_fields=["running_since", "paid_until"])


def meters_stopped(*, rental_refs: Sequence[UUID]) -> None:
    """:func:`meter_stopped` for many at once."""
    rows = RentalMeter.objects.select_for_update().filter(rental_ref__in=rental_refs)
    known = list(rows.order_by("rental_ref").values_list("rental_ref", flat=True))
    if len(known) < len(set(rental_refs)):
        raise NotFound("rental")
    RentalMeter.objects.filter(rental_ref__in=known).update(running_since=None, paid_until=None)


def _lock(rental_ref: UUID) -> RentalMeter:
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if meter is None:
        raise NotFound("rental")
    return meter


def _move(kind: TransactionKind, purse: Purse, meter: RentalMeter, amount: int) -> Entry:
    """``amount`` from the tenant into its hold; negative: back."""
    legs = ((purse.tenant, -amount), (purse.hold, amount))
    return Entry(kind, CauseType.RENTAL, meter.rental_ref, legs, round=meter.round)


def _first_hour(price_micro_h: int, tax_ppm: int) -> int:
    return with_tax(hold_for(price_micro_h, FIRST_HOLD), tax_ppm)


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
