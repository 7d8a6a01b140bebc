"""Where an organization is taxed, and how: its profile, the rate that Stripe Tax found, the point.

The rate is asked for through the outbox and written down when the answer comes; who needs it reads
what is written. Nothing is guessed: where tax is on and no rate is known, the sale is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings

from billing.contracts.tax import (
    Exempt,
    TaxAddress,
    TaxId,
    TaxPoint,
    TaxProfileView,
    TaxTerms,
)
from billing.models import Account, AccountKind, CallKind, TaxProfile, TaxRate
from billing.payments.intents import intend
from billing.payments.tenants import find_customer
from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.money import CURRENCY

# Rates change with laws, a few times a year and announced: an older answer is asked for again, and
# used until the new one is there. Shorter costs calls, longer taxes by a law that is over.
FRESH = timedelta(days=7)
MOST_IDS = 5  # Stripe takes no more per customer


def set_tax_profile(
    *,
    org_ref: UUID,
    address: TaxAddress,
    tax_ids: Sequence[TaxId] = (),
    exempt: Exempt | None = None,
    actor: str,
) -> TaxProfileView:
    """Store an address and tax ids, tell Stripe, and ask for the rate. In a transaction.

    exempt: what staff found out; None: as it was. InvalidRequest per field.
    """
    find_customer(org_ref)
    _check(address, tax_ids)
    before = _newest(org_ref)
    profile = TaxProfile.objects.create(
        org_ref=org_ref,
        country=address.country,
        postal_code=address.postal_code,
        state=address.state,
        city=address.city,
        line1=address.line1,
        tax_ids=[[one.type, one.value] for one in tax_ids],
        exempt=exempt or (before.exempt if before else Exempt.NONE),
        actor=actor[:100],
    )
    key = f"tax:{profile.id}:customer"
    intend(CallKind.CUSTOMER_TAX, key=key, subject=profile.id, org_ref=org_ref)
    if settings.GPUYARD_TAX_POINT != TaxPoint.NONE:
        _ask_rate(profile)
    return tax_profile(org_ref=org_ref)


def tax_profile(*, org_ref: UUID) -> TaxProfileView:
    """What is known of an organization; empty where it never said where it is."""
    profile = _newest(org_ref)
    if profile is None:
        return TaxProfileView(
            org_ref, _point(org_ref), None, (), Exempt.NONE, None, "", None, "", ""
        )
    rate, last = _rate(profile), profile.rates.order_by("-id").first()
    failure = profile.failure or (last.failure if last and rate is None else "")
    return TaxProfileView(
        org_ref=org_ref,
        point=_point(org_ref),
        address=TaxAddress(
            profile.country, profile.postal_code, profile.state, profile.city, profile.line1
        ),
        tax_ids=ids_of(profile),
        exempt=Exempt(profile.exempt),
        ppm=rate.ppm if rate else None,
        reason=rate.reason if rate else "",
        determined_at=rate.determined_at if rate else None,
        source=(rate.stripe_id or "") if rate else "",
        failure=failure,
    )


def ids_of(profile: TaxProfile) -> tuple[TaxId, ...]:
    """The tax ids that a profile names."""
    return tuple(TaxId(kind, value) for kind, value in profile.tax_ids)


def tax_terms(org_ref: UUID, *, on_use: bool | None = None) -> TaxTerms:
    """What tax is due from an organization now, and when.

    InvalidRequest when its rate is not known: the sentence says what to do. An old rate is used and
    asked for again.
    """
    point = _point(org_ref)
    if point == TaxPoint.NONE or (on_use is not None and on_use != (point == TaxPoint.USE)):
        return TaxTerms(point, 0, "")
    profile = _newest(org_ref)
    rate = _rate(profile) if profile else None
    if profile is None or rate is None or rate.ppm is None or rate.determined_at is None:
        raise _unknown(profile, point)
    if now() - rate.determined_at > FRESH:
        _refresh(profile)
    return TaxTerms(point, rate.ppm, rate.reason)


def known_terms(*, org_ref: UUID) -> TaxTerms | None:
    """:func:`tax_terms` for showing; None while the rate is not known. Asks for nothing."""
    point, profile = _point(org_ref), _newest(org_ref)
    if point == TaxPoint.NONE:
        return TaxTerms(point, 0, "")
    rate = _rate(profile) if profile else None
    return None if rate is None else TaxTerms(point, rate.ppm or 0, rate.reason)


def invoiced_as(org_ref: UUID) -> tuple[TaxProfile | None, str]:
    """Whose tax ids an invoice shows that is made now, and why it is taxed as it is."""
    profile = _newest(org_ref)
    rate = _rate(profile) if profile else None
    return profile, rate.reason if rate else ""


def rate_found(rate_id: UUID, *, ppm: int, reason: str, stripe_id: str) -> None:
    """Stripe Tax answered; the first answer of a question stays."""
    TaxRate.objects.filter(id=rate_id, determined_at__isnull=True).update(
        ppm=ppm,
        reason=reason[:50],
        stripe_id=stripe_id,
        failure="",
        determined_at=AppNow(),
    )


def rate_refused(rate_id: UUID, failure: str) -> None:
    """Stripe Tax can not say: most often an address that it does not know."""
    TaxRate.objects.filter(id=rate_id, determined_at__isnull=True).update(failure=failure[:500])


def customer_refused(profile_id: UUID, failure: str) -> None:
    """Stripe refused the address or a tax id."""
    TaxProfile.objects.filter(id=profile_id).update(failure=failure[:500])


def _point(org_ref: UUID) -> TaxPoint:
    """Who pays by invoice buys no credit first: its use is taxed, which never breaks a floor, while
    tax added to an invoice would raise the floor by more than the balance."""
    point = TaxPoint(settings.GPUYARD_TAX_POINT)
    if point == TaxPoint.TOPUP and _post_paid(org_ref):
        return TaxPoint.USE
    return point


def _post_paid(org_ref: UUID) -> bool:
    return Account.objects.filter(
        kind=AccountKind.TENANT, owner_ref=org_ref, currency=CURRENCY, credit_limit_micro__gt=0
    ).exists()


def _newest(org_ref: UUID) -> TaxProfile | None:
    return TaxProfile.objects.filter(org_ref=org_ref).order_by("-id").first()


def _rate(profile: TaxProfile) -> TaxRate | None:
    return profile.rates.filter(determined_at__isnull=False).order_by("-id").first()


def _refresh(profile: TaxProfile) -> None:
    """Ask once a day at most."""
    last = profile.rates.order_by("-id").first()
    if last is None or now() - last.created_at > timedelta(days=1):
        _ask_rate(profile)


def _ask_rate(profile: TaxProfile) -> None:
    rate = TaxRate.objects.create(profile=profile)
    intend(CallKind.TAX_RATE, key=f"tax:{rate.id}:rate", subject=rate.id, org_ref=profile.org_ref)


def _unknown(profile: TaxProfile | None, point: TaxPoint) -> InvalidRequest:
    when = "on use" if point == TaxPoint.USE else "when credit is added"
    where = f"{settings.GPUYARD_BASE_URL}/billing/tax"
    if profile is None:
        why = f"tax is added {when}, and it is not known where you are: give it at {where}"
    else:
        last = profile.rates.order_by("-id").first()
        if last is None:
            _ask_rate(profile)
        if last is not None and last.failure:
            why = f"no tax rate was found for it ({last.failure}): correct it at {where}"
        else:
            why = "the tax rate for it is being asked for: try again in a minute"
    return InvalidRequest({"billing_address": [why]}, f"Nothing was done: {why}.")


def _check(address: TaxAddress, tax_ids: Sequence[TaxId]) -> None:
    wrong: dict[str, list[str]] = {}
    if not re.fullmatch(r"[A-Z]{2}", address.country):
        wrong["country"] = ["two capital letters, as in ISO 3166-1: DE, US"]
    longest = {"postal_code": 20, "state": 100, "city": 100, "line1": 200}
    for name, most in longest.items():
        if len(getattr(address, name)) > most:
            wrong[name] = [f"at most {most} letters"]
    if address.country == "US" and not address.postal_code:
        wrong["postal_code"] = ["needed in the United States: tax differs from one to the next"]
    if len(tax_ids) > MOST_IDS or len(set(tax_ids)) < len(tax_ids):
        wrong["tax_ids"] = [f"at most {MOST_IDS}, each once"]
    for one in tax_ids:
        if not re.fullmatch(r"[a-z]{2,3}_[a-z_]{2,12}", one.type) or not 1 <= len(one.value) <= 50:
            wrong["tax_ids"] = [
                "a type of Stripe's such as eu_vat, and a number of 1 to 50 letters"
            ]
    if wrong:
        raise InvalidRequest(wrong)
