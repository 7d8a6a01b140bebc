"""The database of an hour ago, and Stripe of today: listed, neither credited nor charged."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from billing import facade
from billing.models import Payment, StripeCall, UnknownObject
from kernel.clock import hour_of, now
from tests.area.billing.conftest import USD, limit, open_org, rent, use, window
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    hurry,
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)
from tests.restore import Backup

pytestmark = pytest.mark.django_db(transaction=True)


def settle() -> None:
    for _ in range(3):
        hurry()
        send()
        receive()


def available(org) -> int:
    return facade.balance(org_ref=org).available_micro


def stocktake(since) -> str:
    out = StringIO()
    call_command("stripe_stocktake", "--since", since.isoformat(), stdout=out)
    return out.getvalue()


def sent_keys(stripe) -> list[str]:
    return [row["idempotency_key"] for row in stripe.requests() if row["idempotency_key"]]


def test_what_the_backup_does_not_know_is_listed_and_left_alone(stripe):
    org, other = open_org(), open_org("Post-paid")
    card = save_card(stripe, org)
    save_card(stripe, other)
    limit(other, 100 * USD)
    kept = topup(org, 20 * USD, card)  # asked for before the backup, charged after it
    backup = Backup("billing")

    lost = topup(org, 30 * USD, card)
    page = topup(org, 40 * USD)
    rental = rent(other)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    with transaction.atomic():
        facade.close_period(org_ref=other, actor="staff@example.com")
    settle()
    assert available(org) == 50 * USD
    charges, keys = len(stripe.objects("charge")), sent_keys(stripe)
    assert charges == 3  # two top-ups and the invoice

    backup.restore()
    with transaction.atomic():
        assert facade.look_before_sending() == 1
    settle()
    assert available(org) == 20 * USD, "what was asked for is credited, what is unknown is not"
    assert facade.topup(org_ref=org, topup_id=kept).state == "succeeded"
    assert len(stripe.objects("charge")) == charges, "nobody was charged again"
    assert sent_keys(stripe) == keys, "the waiting intent was found by looking, not sent again"
    assert not StripeCall.objects.exclude(state="done").exists()
    assert Payment.objects.count() == 1
    assert facade.books().balanced

    found = {view.type: view for view in facade.unknown_objects()}
    assert set(found) == {"payment_intent", "invoice"}
    assert found["payment_intent"].claimed_ref == lost
    assert (found["payment_intent"].amount_minor, found["payment_intent"].currency) == (3000, "USD")
    assert found["payment_intent"].customer.startswith("cus_")
    assert (found["invoice"].status, found["invoice"].names) == ("paid", "gpuyard_invoice")

    # The open page tells by no event that it is there: the stocktake finds it as well.
    assert "3 unknown objects" in stocktake(backup.taken_at - timedelta(minutes=1))
    assert UnknownObject.objects.get(type="checkout.session").claimed_ref == page
    stripe.pay_page(stripe.objects("checkout.session")[-1]["url"])
    settle()
    assert available(org) == 20 * USD
    assert UnknownObject.objects.filter(claimed_ref=page).count() == 2  # the page and its payment
    listed = StringIO()
    call_command("unknown", stdout=listed)
    assert "0 unknown pods, 4 unknown objects at Stripe" in listed.getvalue()
    assert f"30.00 USD, customer {found['payment_intent'].customer}" in listed.getvalue()


def test_a_stocktake_of_what_is_known_finds_nothing(stripe):
    org = open_org()
    card = save_card(stripe, org)
    topup(org, 30 * USD, card)
    topup(org, 40 * USD)
    settle()
    assert "0 unknown objects" in stocktake(now() - timedelta(days=1))
    assert facade.unknown_objects() == []


@pytest.mark.parametrize(("text", "why"), [("soon", "no ISO time"), ("2026-11-27", "time zone")])
def test_a_stocktake_needs_a_time(db, text, why):
    with pytest.raises(CommandError, match=why):
        call_command("stripe_stocktake", "--since", text)
