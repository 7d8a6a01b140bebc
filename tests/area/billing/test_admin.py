"""Staff read everything and change nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.db import transaction

from billing import facade
from billing.facade import payouts, refunds
from billing.metering.mirror import collect
from kernel.clock import now
from tests.area.billing.conftest import DAY, USD, credit, limit, open_org, rent, use, window
from tests.area.billing.earners import earner
from tests.authenticator import enrol

pytestmark = pytest.mark.django_db

SHOWN = [model for model in site._registry if model._meta.app_label == "billing"]


@pytest.fixture
def filled(at):
    earner(at)
    with transaction.atomic():
        payouts.make_run(actor="staff:usr_1", sole=False)
    org = open_org()
    credit(org, 20 * USD)
    limit(org, 20 * USD)
    at(DAY + timedelta(hours=2))
    use(window(rent(org), DAY, 3600))
    collect()
    with transaction.atomic():
        facade.close_period(org_ref=org, actor="staff@example.com")
    apps.get_model("billing", "StripeEvent").objects.create(
        id="evt_1", type="invoice.paid", raw="{}", source="poll"
    )
    staff = {"org_ref": org, "reason": "why", "ordered_by": "x", "needs_second": False}
    with transaction.atomic():
        refunds.order_adjustment(
            org_ref=org,
            amount_micro=USD,
            against="revenue",
            reason="why",
            linked=None,
            ordered_by="x",
        )
        refunds.order_refund(
            org_ref=org, amount_micro=USD, reason="why", ordered_by="x", by_renter=True
        )
    invoice = apps.get_model("billing", "Invoice").objects.get()
    apps.get_model("billing", "CreditNote").objects.create(
        invoice=invoice, amount_micro=USD, paid=False, **staff
    )
    apps.get_model("billing", "Dispute").objects.create(
        org_ref=org,
        payment=apps.get_model("billing", "Payment").objects.get(org_ref=org),
        stripe_id="du_1",
        state="needs_response",
        reason="fraudulent",
        amount_minor=1,
    )
    with transaction.atomic():
        refunds.order_promotion(
            org_ref=org,
            amount_micro=USD,
            expires_at=DAY + timedelta(days=30),
            reason="why",
            ordered_by="x",
        )
    apps.get_model("billing", "Break").objects.create(
        rule="R1",
        name="balance_stored",
        subject="account:1",
        expected="1",
        found="2",
        text="why",
    )
    apps.get_model("billing", "UnknownObject").objects.create(
        stripe_id="pi_1", type="payment_intent", names="topup", claimed_ref=org
    )


@pytest.fixture
def admin_user(admin_user):
    """The plugin's, as people who may look here are: verified, with a second factor."""
    admin_user.email_verified_at = now()
    admin_user.save()
    enrol(admin_user)
    return admin_user


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: model.__name__)
def test_pages_show_and_do_not_change(admin_client, filled, model):
    base = f"/admin/billing/{model._meta.model_name}/"
    assert admin_client.get(base, {"q": "1"}).status_code == 200
    row = model.objects.first()
    assert row is not None
    assert admin_client.get(f"{base}{row.pk}/change/").status_code == 200
    assert admin_client.get(f"{base}add/").status_code == 403
    assert admin_client.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{base}{row.pk}/change/", {}).status_code == 403
