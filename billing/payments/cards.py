"""Saved cards: the visit to Stripe's page that saves one, and what came of it."""

from __future__ import annotations

from uuid import UUID

from billing.contracts import CardSetupView, PaymentMethodView, PaymentState
from billing.models import CallKind, CardSetup, PaymentMethod
from billing.payments import attempts
from billing.payments.intents import intend
from billing.payments.tenants import find_customer
from billing.payments.topup import check_return_url
from kernel.errors import NotFound


def start_card_setup(*, org_ref: UUID, return_url: str, ip: str | None = None) -> CardSetupView:
    """Store the wish to save a card and its intent. Refusal rate_limited after too many."""
    check_return_url(return_url)
    customer = find_customer(org_ref)
    attempts.check(org_ref=org_ref, ip=ip, fingerprint="")
    setup = CardSetup.objects.create(customer=customer, return_url=return_url, ip=ip)
    intend(CallKind.CARD_SETUP, key=f"setup:{setup.id}", subject=setup.id, org_ref=org_ref)
    return _setup_view(setup)


def card_setup(*, org_ref: UUID, setup_id: UUID) -> CardSetupView:
    """One card setup of the organization; NotFound for another's."""
    found = CardSetup.objects.filter(customer=org_ref, id=setup_id).first()
    if found is None:
        raise NotFound("card setup")
    return _setup_view(found)


def payment_methods(*, org_ref: UUID) -> list[PaymentMethodView]:
    """The organization's cards, newest first; the first active one is charged by default."""
    return [
        PaymentMethodView(
            id=row.id,
            brand=row.brand,
            last4=row.last4,
            exp_month=row.exp_month,
            exp_year=row.exp_year,
            state=row.state,
        )
        for row in PaymentMethod.objects.filter(customer=org_ref).order_by("-id")
    ]


def default_method(org_ref: UUID) -> PaymentMethod | None:
    """The card that invoices are collected from."""
    return (
        PaymentMethod.objects.filter(customer=org_ref, state=PaymentMethod.ACTIVE)
        .order_by("-id")
        .first()
    )


def _setup_view(row: CardSetup) -> CardSetupView:
    return CardSetupView(id=row.id, state=PaymentState(row.state), url=row.url)
