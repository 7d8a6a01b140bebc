"""Checkout: the session, the hosted page, and what a customer does there."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from tests.contract.conftest import Target

SUCCESS = "https://example.com/done?session={CHECKOUT_SESSION_ID}"


def _session(target: Target, customer: str | None, **more: Any) -> Any:
    params: dict[str, Any] = {
        "mode": "payment",
        "success_url": SUCCESS,
        "cancel_url": "https://example.com/canceled",
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 1250,
                    "product_data": {"name": "GPU credit"},
                },
            }
        ],
        **more,
    }
    if customer:
        params["customer"] = customer
    return target.v1.checkout.sessions.create(params)


def test_a_payment_session_as_created(target: Target) -> None:
    session = _session(target, target.customer().id, metadata={"topup": "7"})
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert (session.amount_total, session.currency) == (2500, "usd")
    assert session.payment_intent is None
    assert session.url.startswith("http")
    lines = target.v1.checkout.sessions.line_items.list(session.id)
    assert [(i.description, i.quantity, i.amount_total) for i in lines.data] == [
        ("GPU credit", 2, 2500)
    ]
    assert target.v1.checkout.sessions.expire(session.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.checkout.sessions.expire(session.id)


@pytest.mark.parametrize(
    "more",
    [
        {"success_url": "not a url"},
        {"expires_at": 1},
        {"line_items": []},
        {"mode": "setup"},
        {"customer_email": "other@example.com"},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(target: Target, more: dict[str, Any]) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        _session(target, target.customer().id, **more)


def test_the_page_takes_the_money_and_sends_the_customer_back(target: Target) -> None:
    control = target.control
    owner = target.customer()
    session = _session(
        target,
        owner.id,
        payment_intent_data={"setup_future_usage": "off_session", "metadata": {"topup": "7"}},
    )
    with urllib.request.urlopen(session.url, timeout=5) as response:
        page = response.read().decode()
    assert "GPU credit" in page
    assert "Pay $25.00" in page
    where = control.pay_page(session.url)
    assert where == SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id)
    done = target.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert done.payment_intent.amount_received == 2500
    assert done.payment_intent.metadata["topup"] == "7"
    # Saved for later, because the intent said so.
    [saved] = target.v1.payment_methods.list({"customer": owner.id}).data
    assert target.charge(owner.id, saved.id).status == "succeeded"
    types = [e["type"] for e in control.objects("event")]
    assert types.index("payment_intent.succeeded") < types.index("checkout.session.completed")
    # The page is closed: paying again is impossible.
    with pytest.raises(ControlError, match="already paid"):
        control.pay_page(session.url)
    assert len(control.objects("charge")) == 2


def test_without_saving_the_card_is_not_kept(target: Target) -> None:
    control = target.control
    owner = target.customer()
    control.pay_page(_session(target, owner.id).url)
    assert target.v1.payment_methods.list({"customer": owner.id}).data == []


def test_a_declined_card_leaves_the_session_open(target: Target) -> None:
    control = target.control
    session = _session(target, target.customer().id)
    for number in ("4000000000000002", "4000000000009995"):
        with pytest.raises(ControlError, match="Your card"):
            control.pay_page(session.url, number)
    still = target.v1.checkout.sessions.retrieve(session.id)
    assert (still.status, still.payment_status) == ("open", "unpaid")
    control.pay_page(session.url)
    assert target.v1.checkout.sessions.retrieve(session.id).status == "complete"
    # One intent for all attempts, one charge each.
    assert len(control.objects("payment_intent")) == 1
    assert [c["status"] for c in control.objects("charge")] == ["failed", "failed", "succeeded"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"card_number": "4242424242424241"}, "number is invalid"),
        ({"card_number": "4111111111111111"}, "non test card"),
        ({"exp_year": "2001"}, "in the past"),
        ({"exp_month": "13"}, "expiration date is incomplete"),
        ({"cvc": "1"}, "security code is incomplete"),
    ],
)
def test_the_form_says_what_is_wrong(target: Target, form: dict[str, str], message: str) -> None:
    control = target.control
    session = _session(target, target.customer().id)
    good = {
        "card_number": "4242 4242 4242 4242",
        "exp_month": "1",
        "exp_year": "40",
        "cvc": "123",
    }
    status, page = control.submit(session.url, action="pay", **(good | form))
    assert status == 200
    assert message in page
    assert control.objects("charge") == []
    status, _ = control.submit(session.url, action="pay", **good)
    assert status == 303


def test_a_challenge_on_the_page(target: Target) -> None:
    control = target.control
    session = _session(target, target.customer().id)
    back = control.pay_page(session.url, "4000002760003184", challenge="fail")
    assert back == session.url
    assert control.pay_page(session.url, "4000002760003184").startswith("https://example.com/done")
    assert target.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_cancel_goes_back_and_leaves_the_session_open(target: Target) -> None:
    control = target.control
    session = _session(target, target.customer().id)
    assert control.submit(session.url, action="cancel") == (303, "https://example.com/canceled")
    assert target.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_a_setup_session_saves_the_card(target: Target) -> None:
    control = target.control
    owner = target.customer()
    session = target.v1.checkout.sessions.create(
        {
            "mode": "setup",
            "customer": owner.id,
            "currency": "usd",
            "success_url": SUCCESS,
            "setup_intent_data": {"metadata": {"setup": "1"}},
        }
    )
    assert session.setup_intent.startswith("seti_")
    with pytest.raises(ControlError, match="declined"):
        control.pay_page(session.url, "4000000000000002")
    control.pay_page(session.url, "4000002500003155")
    done = target.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    assert (done.status, done.setup_intent.status) == ("complete", "succeeded")
    assert done.setup_intent.metadata["setup"] == "1"
    # Set up with a challenge once, this card pays off-session without one.
    assert target.charge(owner.id, done.setup_intent.payment_method).status == "succeeded"


def test_a_guest_and_a_new_customer(target: Target) -> None:
    control = target.control
    guest = _session(target, None)
    control.pay_page(guest.url)
    done = target.v1.checkout.sessions.retrieve(guest.id)
    assert (done.customer, done.customer_details.email) == (None, "customer@example.com")
    always = _session(target, None, customer_creation="always")
    control.pay_page(always.url)
    made = target.v1.checkout.sessions.retrieve(always.id, {"expand": ["customer"]}).customer
    assert made.email == "customer@example.com"


def test_a_session_expires_by_the_clock(target: Target) -> None:
    control = target.control
    session = _session(target, target.customer().id)
    control.advance(24 * 3600 + 1)
    assert target.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert control.objects("event")[-1]["type"] == "checkout.session.expired"
    with pytest.raises(ControlError, match="expired"):
        control.pay_page(session.url)
    assert control.objects("charge") == []


def test_a_hostile_name_is_text_on_the_page(target: Target) -> None:
    _ = target.control
    item = {
        "quantity": 1,
        "price_data": {
            "currency": "usd",
            "unit_amount": 500,
            "product_data": {"name": "<script>alert(1)</script>"},
        },
    }
    session = _session(target, target.customer().id, line_items=[item])
    with urllib.request.urlopen(session.url, timeout=5) as response:
        page = response.read().decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
