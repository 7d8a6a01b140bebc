"""A tenant, a provider and short ways to make money and time pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from billing import facade
from billing.contracts import PaymentState, PriceTerms
from billing.models import AccountKind, Posting, TaxProfile, TaxRate, TopUp
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from kernel.clock import AppNow
from kernel.ids import new_id
from tests.columns import Window, columns

DAY = datetime(2026, 3, 1, tzinfo=UTC)
USD = 1_000_000


@pytest.fixture
def at(db) -> Iterator[Callable[[datetime], None]]:
    """Set the platform's clock of this connection."""

    def set_clock(moment: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])

    yield set_clock
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', '', false)")


def open_org(name: str = "Acme") -> UUID:
    org = new_id()
    with transaction.atomic():
        facade.open_tenant(org_ref=org, email="billing@example.com", name=name)
    return org


def credit(org: UUID, micro: int) -> None:
    """Money as it comes from Stripe: a succeeded payment of a top-up."""
    row = TopUp.objects.create(
        customer_id=org, amount_micro=micro, currency="USD", return_url="https://example.com/"
    )
    fact = PaymentFact(
        stripe_id=f"pi_{row.id.hex}",
        state=PaymentState.SUCCEEDED,
        amount_minor=micro // 10_000,
        currency="USD",
        fee_minor=None,
        failure=None,
    )
    assert topup_payment(row.id, fact)


def limit(org: UUID, micro: int) -> None:
    with transaction.atomic():
        facade.set_credit_limit(org_ref=org, limit_micro=micro)


def taxed(org: UUID, ppm: int, reason: str = "standard_rated") -> None:
    """Where it is, and the rate that Stripe Tax found for that."""
    profile = TaxProfile.objects.create(
        org_ref=org, country="DE", postal_code="10115", tax_ids=[["eu_vat", "DE123"]], actor="t"
    )
    TaxRate.objects.create(
        profile=profile,
        ppm=ppm,
        reason=reason,
        stripe_id=f"taxcalc_{profile.id.hex}",
        determined_at=AppNow(),
    )


def owed_tax() -> int:
    rows = Posting.objects.filter(account__kind=AccountKind.TAX_PAYABLE)
    return rows.aggregate(total=Sum("amount_micro"))["total"] or 0


def terms(**changes) -> PriceTerms:
    values = {
        "currency": "USD",
        "gpus": 2,
        "price_micro_h": 4 * USD,
        "provider_micro_h": changes.get("price_micro_h", 4 * USD) * 85 // 100,
        "provider_ref": new_id(),
        "accelerator": "nvidia-h100-80gb-sxm",
        "description": "2 x NVIDIA H100 80GB SXM, fra-1",
    }
    return PriceTerms(**(values | changes))


def rent(org: UUID, **changes) -> UUID:
    rental = new_id()
    with transaction.atomic():
        facade.hold(org_ref=org, rental_ref=rental, terms=terms(**changes))
    return rental


def start(rental: UUID, moment: datetime) -> None:
    with transaction.atomic():
        facade.meter_started(rental_ref=rental, at=moment)


def stop(rental: UUID) -> None:
    with transaction.atomic():
        facade.meter_stopped(rental_ref=rental)


def end(rental: UUID) -> None:
    with transaction.atomic():
        facade.end_rental(rental_ref=rental)


def window(rental: UUID, begin: datetime, seconds: int) -> Window:
    return Window(
        rental_ref=rental,
        source_ref=UUID(int=7),
        from_at=begin,
        to_at=begin + timedelta(seconds=seconds),
    )


def use(*windows: Window) -> int:
    with transaction.atomic():
        return facade.post_usage(windows=columns(windows))


def corrupt(table: str, statement: str) -> None:
    """Change rows as only the tables' owner can, with the guards switched off for a moment."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement)
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
