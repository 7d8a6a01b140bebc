"""The invoice as a document: exact, whose sale it is, and the same bytes each time."""

from __future__ import annotations

import io
from datetime import timedelta

import pypdf
import pytest
from django.db import transaction
from django.test import Client

from billing import facade as billing
from billing.contracts import InvoiceState
from billing.invoicing.converge import invoice_seen
from billing.models import Customer
from billing.payments.facts import InvoiceFact
from kernel.clock import hour_of, now
from kernel.ids import new_id, parse, public
from marketplace.models import Provider
from tests.columns import Window, columns
from tests.market import USD, Renter, make_renter, make_supply, order

pytestmark = pytest.mark.django_db


@pytest.fixture
def renter() -> Renter:
    """A post-paid renter with an hour and seven seconds of a partner's and an owned card."""
    renter = make_renter("Acme & <Sons>", credit=0)
    with transaction.atomic():
        billing.set_credit_limit(org_ref=renter.org, limit_micro=100 * USD)
    begin = hour_of(now()) - timedelta(hours=3)
    for ownership, region in (("partner", "eu-central"), ("owned", "eu-north")):
        supply = make_supply(2, price=1_234_567, ownership=ownership, region=region)
        Provider.objects.filter(id=supply.provider.id).update(ownership=ownership)
        status, made = renter.call("POST", "/rentals", order(supply.offer, 2))
        assert status == 202, made
        ref = parse("rental", made["id"])
        windows = [
            Window(ref, new_id(), begin, begin + timedelta(hours=1)),
            Window(ref, new_id(), begin + timedelta(hours=1), begin + timedelta(seconds=3607)),
        ]
        with transaction.atomic():
            billing.meter_started(rental_ref=ref, at=begin)
            billing.post_usage(windows=columns(windows))
    return renter


def close(renter: Renter) -> str:
    with transaction.atomic():
        made = billing.close_period(org_ref=renter.org, actor="test")
    fact = InvoiceFact(
        stripe_id="in_1",
        state=InvoiceState.OPEN,
        total_minor=made.total_minor,
        currency="USD",
        number="GY-0001",
        hosted_url=None,
    )
    assert invoice_seen(made.id, fact)
    return public("invoice", made.id)


def fetch(renter: Renter, invoice: str) -> bytes:
    answer = Client().get(
        f"/api/v1/billing/invoices/{invoice}/pdf",
        headers={"Authorization": f"Bearer {renter.secret}"},
    )
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/pdf")
    return bytes(answer.content)


def text_of(pdf: bytes) -> str:
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def test_the_document_is_exact_says_who_sells_and_is_the_same_each_time(
    renter: Renter, settings
) -> None:
    settings.GPUYARD_SELLER_ADDRESS = "1 Yard Lane; Springfield"
    settings.GPUYARD_SELLER_TAX_ID = "XX123"
    invoice = close(renter)
    pdf = fetch(renter, invoice)
    text = text_of(pdf)
    seconds = 4 * 3607  # two cards each
    exact = 2 * (1_234_567 * 2 * 3607 // 3600)
    for part in (
        "Invoice GY-0001",
        "gpuyard 1 Yard Lane Springfield Tax id XX123",
        "Acme & <Sons>",
        f"{seconds / 3600:.6f}",
        f"{exact // USD}.{exact % USD:06d}",
        f"Part of a cent carried to the next invoice -0.00{exact % 10_000:04d}",
        f"Total {exact // 10_000 / 100:.2f} USD",
        "Tax none charged",
        "Tax point",
        "Owner the seller of the compute is Owner; gpuyard acts as its agent",
        "gpuyard gpuyard is the principal: it sells the compute itself",
        "To be paid",
    ):
        assert part in text, part
    assert fetch(renter, invoice) == pdf
    Customer.objects.filter(org_ref=renter.org).update(name="Акме 株式会社")
    assert fetch(renter, invoice) != pdf


def test_nobody_else_finds_it(renter: Renter) -> None:
    other = make_renter()
    assert other.call("GET", f"/billing/invoices/{close(renter)}/pdf")[0] == 404


def test_roles_come_from_the_settings(renter: Renter, settings) -> None:
    settings.GPUYARD_ROLES = {"owned": "agent", "partner": "principal"}
    text = text_of(fetch(renter, close(renter)))
    assert "Owner the seller of the compute is Owner; gpuyard acts as its agent" in text
    assert text.count("is the principal") == 1


def test_a_draft_says_that_it_is_one(renter: Renter) -> None:
    with transaction.atomic():
        made = billing.close_period(org_ref=renter.org, actor="test")
    text = text_of(fetch(renter, public("invoice", made.id)))
    assert "Draft invoice" in text
    assert "nothing is owed" in text
