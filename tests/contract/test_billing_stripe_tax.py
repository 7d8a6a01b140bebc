"""Tax through Stripe: rates, tax ids, credit, refunds and invoices, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.tax import Exempt, TaxAddress, TaxId, TaxPoint
from billing.facade import refunds
from billing.facade import tax as door
from billing.models import Invoice, Payment, Refund, StripeCall, TopUp
from kernel.clock import now
from kernel.errors import InvalidRequest
from tests.area.billing.conftest import (
    USD,
    end,
    limit,
    open_org,
    owed_tax,
    rent,
    start,
    use,
    window,
)
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    hurry,
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)

pytestmark = pytest.mark.django_db(transaction=True)
BERLIN = TaxAddress(country="DE", postal_code="10115", city="Berlin", line1="Weg 1")


def at_home(org: UUID, *ids: TaxId, exempt: Exempt | None = None) -> None:
    with transaction.atomic():
        door.set_tax_profile(org_ref=org, address=BERLIN, tax_ids=ids, exempt=exempt, actor="owner")
    send()


def refund(org: UUID, micro: int | None) -> None:
    with transaction.atomic():
        refunds.order_refund(
            org_ref=org, amount_micro=micro, reason="unused", ordered_by="o", by_renter=True
        )
    send()
    receive()


def test_the_rate_and_the_ids_are_stripes(stripe: Any, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "use"
    stripe.order("tax", percentage="8.875")
    org = open_org()
    at_home(org, TaxId("eu_vat", "DE000000000"), TaxId("us_ein", "12-3456789"))
    view = door.tax_profile(org_ref=org)
    assert (view.ppm, view.reason, view.failure) == (88_750, "standard_rated", "")
    assert view.source.startswith("taxcalc_")
    assert view.determined_at is not None
    at_home(org, TaxId("eu_vat", "DE000000000"))
    (customer,) = stripe.objects("customer")
    assert (customer["address"]["postal_code"], customer["tax_exempt"]) == ("10115", "none")
    assert [one["value"] for one in stripe.objects("tax_id")] == ["DE000000000"]
    at_home(org, exempt=Exempt.REVERSE)
    view = door.tax_profile(org_ref=org)
    assert (view.ppm, view.reason) == (0, "reverse_charge")
    assert stripe.objects("tax_id") == []
    terms = door.tax_terms(org_ref=org)
    assert terms is not None
    assert (terms.ppm, terms.reason) == (0, "reverse_charge")


def test_an_answer_that_was_lost_is_asked_for_again(stripe: Any, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "use"
    stripe.order("tax", percentage="19")
    org = open_org()
    send()
    with transaction.atomic():
        door.set_tax_profile(org_ref=org, address=BERLIN, actor="owner")
    (customer,) = stripe.objects("customer")
    for path in (f"/v1/customers/{customer['id']}", "/v1/tax/calculations"):
        stripe.fail("cut_after", method="POST", path=path)
    for _ in range(3):
        send()
        hurry()
    assert [fault["hits"] for fault in stripe.faults()] == [1, 1]
    stripe.clear()
    assert not StripeCall.objects.exclude(state="done").exists()
    assert door.tax_profile(org_ref=org).ppm == 190_000


def test_credit_on_stripes_page_is_taxed_and_only_the_net_is_credit(
    stripe: Any, settings: Any
) -> None:
    settings.GPUYARD_TAX_POINT = "topup"
    stripe.order("tax", percentage="19")
    org = open_org()
    with pytest.raises(InvalidRequest, match="when credit is added"):
        topup(org, 25 * USD)
    at_home(org)
    wish = topup(org, 25 * USD)
    send()
    stripe.pay_page(facade.topup(org_ref=org, topup_id=wish).checkout_url)
    receive()
    receive()
    payment = Payment.objects.get()
    assert (payment.amount_minor, payment.tax_minor) == (2_975, 475)
    assert facade.balance(org_ref=org).available_micro == 25 * USD
    assert owed_tax() == 4_750_000
    refund(org, 10 * USD)
    row = Refund.objects.get()
    assert (row.amount_minor, row.tax_minor, row.state) == (1_190, 190, "succeeded")
    refund(org, None)
    assert sum(one["amount"] for one in stripe.objects("refund")) == 2_975
    assert owed_tax() == facade.balance(org_ref=org).available_micro == 0
    assert facade.books().balanced
    assert not StripeCall.objects.exclude(state="done").exists()


def test_a_saved_card_pays_the_calculated_tax_and_stripe_hears_of_it(
    stripe: Any, settings: Any
) -> None:
    settings.GPUYARD_TAX_POINT = "topup"
    stripe.order("tax", percentage="8.875")
    org = open_org()
    at_home(org)
    card = save_card(stripe, org)
    wish = topup(org, 10 * USD, card)
    send()
    receive()
    row = TopUp.objects.get(id=wish)
    assert (row.state, row.tax_minor) == ("succeeded", 89)
    (intent,) = stripe.objects("payment_intent")
    assert intent["amount_received"] == 1_089
    assert facade.balance(org_ref=org).available_micro == 10 * USD
    (sale,) = stripe.objects("tax.transaction")
    assert (sale["id"], sale["reference"]) == (row.tax_transaction, f"topup:{wish}")
    for micro in (3_330_000, 3_330_000, None):
        refund(org, micro)
    assert [one.tax_minor for one in Refund.objects.order_by("id")] == [29, 30, 30]
    assert owed_tax() == 0
    assert [one["type"] for one in stripe.objects("tax.transaction")] == [
        "transaction",
        *["reversal"] * 3,
    ]
    assert facade.books().balanced


@pytest.mark.parametrize("percentage", ["19", "8.875"])
def test_an_invoice_carries_the_ledgers_tax_to_the_cent(
    stripe: Any, settings: Any, percentage: str
) -> None:
    settings.GPUYARD_TAX_POINT = "use"
    stripe.order("tax", percentage=percentage)
    org = open_org()
    limit(org, 100 * USD)
    at_home(org, TaxId("eu_vat", "DE000000000"))
    begin = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    for price in (4 * USD, 3_333_333):
        rental = rent(org, price_micro_h=price, accelerator=f"card-{price}")
        start(rental, begin)
        use(window(rental, begin, 3_599), window(rental, begin + timedelta(hours=1), 1_777))
        end(rental)
    with transaction.atomic():
        facade.credit(
            rental_ref=rental,
            from_at=begin + timedelta(hours=1),
            to_at=begin + timedelta(hours=2),
            by_provider=False,
        )
    before = -facade.balance(org_ref=org).available_micro
    with transaction.atomic():
        facade.close_period(org_ref=org, actor="staff")
    send()
    receive()
    invoice = Invoice.objects.get()
    assert (invoice.state, invoice.alarm) == ("open", "")
    assert invoice.total_minor == before // 10_000
    assert -facade.balance(org_ref=org).available_micro == before % 10_000 == invoice.carried_micro
    assert invoice.tax_micro == owed_tax()
    (there,) = stripe.objects("invoice")
    assert there["total"] == invoice.total_minor
    taxes = [line.tax_minor for line in invoice.lines.order_by("position")]
    assert sum(taxes) == there["total"] - there["total_excluding_tax"]
    assert len(taxes) == 3
    assert min(taxes) < 0  # that of what was given back
    assert [one["value"] for one in there["customer_tax_ids"]] == ["DE000000000"]
    assert facade.books().balanced


def test_reverse_charge_stands_on_the_invoice(stripe: Any, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "topup"  # on use for who pays by invoice
    stripe.order("tax", percentage="19")
    org = open_org()
    limit(org, 100 * USD)
    at_home(org, TaxId("eu_vat", "DE000000000"), exempt=Exempt.REVERSE)
    assert door.tax_profile(org_ref=org).point == TaxPoint.USE
    begin = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    rental = rent(org)
    start(rental, begin)
    use(window(rental, begin, 3_600))
    end(rental)
    with transaction.atomic():
        facade.close_period(org_ref=org, actor="staff")
    send()
    receive()
    (there,) = stripe.objects("invoice")
    assert (there["status"], there["total"]) == ("open", 400)
    [tax] = there["total_taxes"]
    assert (tax["amount"], tax["taxability_reason"]) == (0, "reverse_charge")
    assert owed_tax() == 0
