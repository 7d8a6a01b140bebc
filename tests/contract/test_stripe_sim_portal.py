"""The billing portal: a customer keeps cards and details on Stripe's page."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.resources.portal import LIVES_S
from tests.contract.conftest import Target


def test_a_customer_keeps_cards_and_details_in_the_portal(target: Target) -> None:
    control, v1 = target.control, target.v1
    portal: Any = v1.billing_portal
    owner = target.customer()
    first = target.saved_card(owner.id)
    given = {"customer": owner.id, "return_url": "https://example.com/billing"}
    with pytest.raises(stripe.InvalidRequestError, match="default configuration"):
        portal.sessions.create(given)
    made = portal.configurations.create(
        {
            "features": {
                "payment_method_update": {"enabled": True},
                "customer_update": {"enabled": True, "allowed_updates": ["email"]},
            },
            "metadata": {"use": "cards"},
        }
    )
    assert [c.id for c in portal.configurations.list({"active": True}).data] == [made.id]
    pause = {"features": {"subscription_pause": {"enabled": True}}}
    with pytest.raises(stripe.APIError, match="this simulator does not"):
        portal.configurations.update(made.id, pause)
    session = portal.sessions.create({**given, "configuration": made.id})
    url = session.url
    number = {"card_number": "5555555555554444", "exp_month": "12", "exp_year": "2040"}
    assert control.submit(url, action="add", cvc="123", **number) == (303, url)
    cards = v1.payment_methods.list({"customer": owner.id}).data
    assert [c.card.brand for c in cards] == ["mastercard", "visa"]
    control.submit(url, action="default", payment_method=cards[0].id)
    control.submit(url, action="remove", payment_method=first.id)
    control.submit(url, action="update", email="new@example.com", name="not allowed")
    now = v1.customers.retrieve(owner.id)
    assert now.invoice_settings.default_payment_method == cards[0].id
    assert (now.email, now.name) == ("new@example.com", None)
    other = target.saved_card(target.customer().id)
    status, page = control.submit(url, action="remove", payment_method=other.id)
    assert (status, "not yours" in page) == (200, True)
    status, page = control.submit(url, action="add", cvc="123", **{**number, "card_number": "1"})
    assert "card number is invalid" in page
    assert control.submit(url, action="return") == (303, "https://example.com/billing")
    detached = [e for e in control.objects("event") if e["type"] == "payment_method.detached"]
    assert [e["data"]["object"]["id"] for e in detached] == [first.id]
    control.advance(LIVES_S)
    assert "expired" in control.submit(url, action="return")[1]
    control.order("save_portal")
    assert portal.sessions.create(given).url.startswith("http")
