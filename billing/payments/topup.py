"""Top-ups: a wish is a row with an intent; money arrives when Stripe says so (converge)."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID

from billing.contracts import PaymentState, TopUpView
from billing.contracts.tax import TaxPoint
from billing.models import CallKind, PaymentMethod, TopUp
from billing.payments import attempts
from billing.payments.dispute import refuse_while_disputed
from billing.payments.intents import intend
from billing.payments.tax import tax_terms
from billing.payments.tenants import find_customer
from kernel.errors import InvalidRequest, NotFound
from kernel.money import CURRENCY, MICRO, MICRO_PER_MINOR, format_micro

# Under five dollars the card fee eats the payment; above ten thousand a card is the wrong way.
SMALLEST = 5 * MICRO
LARGEST = 10_000 * MICRO


def start_topup(
    *,
    org_ref: UUID,
    amount_micro: int,
    return_url: str,
    payment_method_id: UUID | None = None,
    ip: str | None = None,
) -> TopUpView:
    """Store a top-up and its intent: Stripe's page, or at once with a saved card.

    ``ip``: who asks, where that is known. Refusal rate_limited after too many attempts;
    InvalidRequest("billing_address") where tax is added to credit and not known.
    """
    check_return_url(return_url)
    check_amount("amount", amount_micro)
    refuse_while_disputed(org_ref)
    customer, method = find_customer(org_ref), find_method(org_ref, payment_method_id)
    attempts.check(org_ref=org_ref, ip=ip, fingerprint=method.fingerprint if method else "")
    topup = TopUp.objects.create(
        customer=customer,
        amount_micro=amount_micro,
        currency=CURRENCY,
        return_url=return_url,
        method=method,
        taxed=taxed(org_ref),
        ip=ip,
    )
    ask(topup)
    topup.refresh_from_db(fields=["created_at"])
    return _view(topup)


def ask(topup: TopUp) -> None:
    """Store the intent: Stripe's page, or a charge of the saved card, after its tax is known."""
    kind, key = CallKind.TOPUP_CHECKOUT, f"topup:{topup.id}"
    if topup.method_id:
        kind = CallKind.TOPUP_CHARGE
        if topup.taxed:
            kind, key = CallKind.TOPUP_TAX, f"{key}:calculate"
    intend(kind, key=key, subject=topup.id, org_ref=topup.customer_id)


def taxed(org_ref: UUID) -> bool:
    """Whether tax is added to credit; InvalidRequest while its rate is not known."""
    return tax_terms(org_ref, on_use=False).point == TaxPoint.TOPUP


def check_amount(field: str, amount_micro: int) -> None:
    """InvalidRequest for what is no whole cents between the smallest and the largest top-up."""
    if not SMALLEST <= amount_micro <= LARGEST or amount_micro % MICRO_PER_MINOR:
        span = f"{format_micro(SMALLEST, places=2)} to {format_micro(LARGEST, places=2)}"
        raise InvalidRequest({field: [f"whole cents, {span} {CURRENCY}"]})


def topup(*, org_ref: UUID, topup_id: UUID) -> TopUpView:
    """One top-up of the organization; NotFound for another's."""
    found = TopUp.objects.filter(customer=org_ref, id=topup_id).first()
    if found is None:
        raise NotFound("top-up")
    return _view(found)


def topups(*, org_ref: UUID) -> list[TopUpView]:
    """The organization's top-ups, newest first."""
    return [_view(row) for row in TopUp.objects.filter(customer=org_ref).order_by("-id")]


def check_return_url(url: str) -> None:
    """Only an http(s) address can be come back to."""
    parts = urlsplit(url) if len(url) <= 2000 else urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidRequest({"return_url": ["an http or https address of at most 2000 letters"]})


def find_method(org_ref: UUID, method_id: UUID | None) -> PaymentMethod | None:
    """The organization's active card; NotFound for another's or a detached one."""
    if method_id is None:
        return None
    method = PaymentMethod.objects.filter(
        customer=org_ref, id=method_id, state=PaymentMethod.ACTIVE
    ).first()
    if method is None:
        raise NotFound("payment method")
    return method


def _view(row: TopUp) -> TopUpView:
    return TopUpView(
        id=row.id,
        org_ref=row.customer_id,
        amount_micro=row.amount_micro,
        currency=row.currency,
        state=PaymentState(row.state),
        checkout_url=row.checkout_url,
        failure=row.failure,
        created_at=row.created_at,
    )
