"""Customers, cards, setup intents, payment intents, charges and the balance."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.resources.charges import PAYS_OUT_AFTER_S, fee_of
from tests.contract.conftest import Target


def _events(target: Target) -> list[str]:
    return [e["type"] for e in target.control.objects("event")]


def test_customer_create_retrieve_update_list_delete(target: Target, unique: str) -> None:
    email = f"{unique}@example.com"
    made = target.customer(email=email, name="Org", metadata={"org": unique, "plan": "x"})
    assert made.id.startswith("cus_")
    assert (made.email, made.livemode) == (email, False)
    changed = target.v1.customers.update(made.id, {"name": "New", "metadata": {"plan": ""}})
    assert (changed.name, changed.metadata.to_dict()) == ("New", {"org": unique})
    assert target.v1.customers.retrieve(made.id).name == "New"
    assert [c.id for c in target.v1.customers.list({"email": email}).data] == [made.id]
    assert target.v1.customers.delete(made.id).deleted is True
    assert target.v1.customers.list({"email": email}).data == []
    assert target.v1.customers.retrieve(made.id).deleted is True
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        target.v1.payment_intents.create({"amount": 500, "currency": "usd", "customer": made.id})


def test_an_update_tells_what_changed(target: Target) -> None:
    control = target.control
    made = target.customer(name="Before")
    target.v1.customers.update(made.id, {"name": "After"})
    event = control.objects("event")[-1]
    assert event["type"] == "customer.updated"
    assert event["data"]["previous_attributes"] == {"name": "Before"}
    assert event["request"]["id"].startswith("req_")


def test_lists_page_with_cursors_newest_first(target: Target, unique: str) -> None:
    email = f"{unique}@example.com"
    ids = [target.customer(email=email).id for _ in range(5)][::-1]
    customers = target.v1.customers
    first = customers.list({"email": email, "limit": 2})
    assert ([c.id for c in first.data], first.has_more) == (ids[:2], True)
    second = customers.list({"email": email, "limit": 2, "starting_after": ids[1]})
    assert ([c.id for c in second.data], second.has_more) == (ids[2:4], True)
    back = customers.list({"email": email, "limit": 2, "ending_before": ids[4]})
    assert [c.id for c in back.data] == ids[2:4]
    every = customers.list({"email": email, "limit": 2}).auto_paging_iter()
    assert [c.id for c in every] == ids
    with pytest.raises(stripe.InvalidRequestError):
        customers.list({"limit": 101})


def test_payment_method_attach_list_detach(target: Target) -> None:
    owner = target.customer()
    card = target.saved_card(owner.id)
    assert (card.card.brand, card.card.last4, card.customer) == ("visa", "4242", owner.id)
    again = target.saved_card(target.customer().id)
    assert again.id != card.id
    assert again.card.fingerprint == card.card.fingerprint
    listed = target.v1.payment_methods.list({"customer": owner.id, "type": "card"})
    assert [m.id for m in listed.data] == [card.id]
    with pytest.raises(stripe.InvalidRequestError, match="already been attached"):
        target.v1.payment_methods.attach(card.id, {"customer": target.customer().id})
    target.v1.customers.update(owner.id, {"invoice_settings": {"default_payment_method": card.id}})
    assert target.v1.payment_methods.detach(card.id).customer is None
    settings = target.v1.customers.retrieve(owner.id).invoice_settings
    assert settings.default_payment_method is None
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        target.v1.payment_methods.attach(card.id, {"customer": owner.id})


def test_raw_card_numbers_are_refused(target: Target) -> None:
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    with pytest.raises(stripe.StripeError, match="generally unsafe"):
        target.v1.payment_methods.create({"type": "card", "card": card})
    made = target.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    assert made.card.last4 == "4242"


def test_a_declining_card_cannot_be_attached(target: Target) -> None:
    owner = target.customer()
    with pytest.raises(stripe.CardError) as declined:
        target.saved_card(owner.id, "pm_card_chargeDeclined")
    assert declined.value.code == "card_declined"
    assert target.v1.payment_methods.list({"customer": owner.id}).data == []


def test_an_off_session_payment_with_a_saved_card(target: Target) -> None:
    owner = target.customer()
    card = target.saved_card(owner.id)
    paid = target.charge(
        owner.id,
        card.id,
        2500,
        metadata={"topup": "1"},
        expand=["latest_charge.balance_transaction"],
    )
    assert (paid.status, paid.amount_received) == ("succeeded", 2500)
    charge = paid.latest_charge
    assert (charge.paid, charge.amount, charge.metadata["topup"]) == (True, 2500, "1")
    entry = charge.balance_transaction
    assert (entry.amount, entry.fee, entry.net) == (2500, 103, 2397)
    assert target.v1.balance_transactions.retrieve(entry.id).source == charge.id
    listed = target.v1.payment_intents.list({"customer": owner.id})
    assert [i.id for i in listed.data] == [paid.id]
    assert (
        target.v1.payment_intents.list({"customer": owner.id, "created": {"gt": paid.created}}).data
        == []
    )
    charges = target.v1.charges.list({"payment_intent": paid.id})
    assert [c.id for c in charges.data] == [charge.id]


def test_the_events_of_a_payment_and_their_snapshots(target: Target) -> None:
    control = target.control
    owner = target.customer()
    target.charge(owner.id, target.saved_card(owner.id).id)
    events = control.objects("event")
    assert [e["type"] for e in events] == [
        "customer.created",
        "payment_method.attached",
        "payment_intent.created",
        "charge.succeeded",
        "charge.updated",
        "payment_intent.succeeded",
    ]
    by_type = {e["type"]: e["data"]["object"] for e in events}
    assert by_type["payment_intent.created"]["status"] == "requires_confirmation"
    # As with asynchronous capture at Stripe: the first snapshot has no balance transaction.
    assert by_type["charge.succeeded"]["balance_transaction"] is None
    assert by_type["charge.updated"]["balance_transaction"].startswith("txn_")


@pytest.mark.parametrize(
    ("name", "code", "decline"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", None),
    ],
)
def test_a_declined_payment_is_on_record(
    target: Target, name: str, code: str, decline: str | None
) -> None:
    owner = target.customer()
    with pytest.raises(stripe.CardError) as declined:
        target.charge(owner.id, name)
    error = declined.value
    assert (error.http_status, error.code) == (402, code)
    assert error.error is not None
    assert decline is None or error.error.decline_code == decline
    [intent] = target.v1.payment_intents.list({"customer": owner.id}).data
    assert (intent.status, intent.amount_received) == ("requires_payment_method", 0)
    assert intent.last_payment_error.code == code
    assert intent.payment_method is None
    failed = target.v1.charges.retrieve(intent.latest_charge)
    assert (failed.status, failed.paid, failed.balance_transaction) == ("failed", False, None)
    # The same intent can still be paid with a better card.
    paid = target.v1.payment_intents.confirm(
        intent.id, {"payment_method": target.saved_card(owner.id).id, "off_session": True}
    )
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)


def test_a_card_that_attaches_and_then_declines(target: Target) -> None:
    owner = target.customer()
    card = target.saved_card(owner.id, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError):
        target.charge(owner.id, card.id)
    assert [m.id for m in target.v1.payment_methods.list({"customer": owner.id}).data] == [card.id]


def test_an_off_session_challenge_is_402(target: Target) -> None:
    owner = target.customer()
    card = target.saved_card(owner.id, "pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError) as refused:
        target.charge(owner.id, card.id)
    assert (refused.value.http_status, refused.value.code) == (402, "authentication_required")
    error: Any = refused.value.error
    assert error.payment_intent.status == "requires_payment_method"
    assert error.payment_method.id == card.id


def test_an_on_session_challenge_waits_for_the_customer(target: Target) -> None:
    control = target.control
    owner = target.customer()
    card = target.saved_card(owner.id, "pm_card_authenticationRequired")
    waiting = target.charge(
        owner.id, card.id, off_session=False, return_url="https://example.com/back"
    )
    assert waiting.status == "requires_action"
    page = waiting.next_action.redirect_to_url.url
    status, where = control.submit(page, action="fail")
    assert status == 303
    assert "redirect_status=failed" in where
    assert where.startswith("https://example.com/back?")
    failed = target.v1.payment_intents.retrieve(waiting.id)
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    again = target.v1.payment_intents.confirm(
        waiting.id, {"payment_method": card.id, "return_url": "https://example.com/back"}
    )
    _, where = control.submit(again.next_action.redirect_to_url.url, action="complete")
    assert "redirect_status=succeeded" in where
    assert target.v1.payment_intents.retrieve(waiting.id).status == "succeeded"
    assert _events(target).count("payment_intent.requires_action") == 2


def test_confirming_without_return_url_is_refused(target: Target) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        target.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
        )


def test_a_card_of_another_customer_is_refused(target: Target) -> None:
    card = target.saved_card(target.customer().id)
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        target.charge(target.customer().id, card.id)


def test_a_payment_cannot_be_confirmed_or_canceled_twice(target: Target) -> None:
    owner = target.customer()
    paid = target.charge(owner.id, target.saved_card(owner.id).id)
    for call in (target.v1.payment_intents.confirm, target.v1.payment_intents.cancel):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call(paid.id)
        assert refused.value.code == "payment_intent_unexpected_state"
    open_one = target.v1.payment_intents.create({"amount": 500, "currency": "usd"})
    gone = target.v1.payment_intents.cancel(open_one.id, {"cancellation_reason": "duplicate"})
    assert (gone.status, gone.cancellation_reason) == ("canceled", "duplicate")
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.payment_intents.confirm(open_one.id, {"payment_method": "pm_card_visa"})


def test_a_card_used_without_a_customer_is_spent(target: Target) -> None:
    card = target.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    params = {
        "amount": 500,
        "currency": "usd",
        "payment_method": card.id,
        "confirm": True,
        "return_url": "https://example.com/",
    }
    assert target.v1.payment_intents.create(params).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        target.v1.payment_intents.create(params)


def test_a_setup_intent_saves_a_card(target: Target) -> None:
    owner = target.customer()
    done = target.v1.setup_intents.create(
        {
            "customer": owner.id,
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    assert (done.status, done.usage) == ("succeeded", "off_session")
    [saved] = target.v1.payment_methods.list({"customer": owner.id}).data
    assert saved.id == done.payment_method
    assert target.charge(owner.id, saved.id).status == "succeeded"


def test_a_setup_intent_declines(target: Target) -> None:
    owner = target.customer()
    intent = target.v1.setup_intents.create({"customer": owner.id})
    assert intent.status == "requires_payment_method"
    with pytest.raises(stripe.CardError):
        target.v1.setup_intents.confirm(
            intent.id,
            {"payment_method": "pm_card_chargeDeclined", "return_url": "https://example.com/"},
        )
    failed = target.v1.setup_intents.retrieve(intent.id)
    assert failed.last_setup_error.code == "card_declined"
    assert target.v1.setup_intents.cancel(intent.id).status == "canceled"


def test_a_card_set_up_with_a_challenge_then_pays_off_session(target: Target) -> None:
    control = target.control
    owner = target.customer()
    bare = target.saved_card(owner.id, "pm_card_authenticationRequiredOnSetup")
    with pytest.raises(stripe.CardError):
        target.charge(owner.id, bare.id)
    waiting = target.v1.setup_intents.create(
        {
            "customer": owner.id,
            "payment_method": bare.id,
            "confirm": True,
            "return_url": "https://example.com/",
        }
    )
    assert waiting.status == "requires_action"
    control.submit(waiting.next_action.redirect_to_url.url, action="complete")
    assert target.v1.setup_intents.retrieve(waiting.id).status == "succeeded"
    assert target.charge(owner.id, bare.id).status == "succeeded"


def test_the_balance_is_the_sum_of_its_transactions(target: Target) -> None:
    control = target.control
    owner = target.customer()
    card = target.saved_card(owner.id)
    amounts = [50, 999, 1000, 123_456]
    for amount in amounts:
        target.charge(owner.id, card.id, amount)
    with pytest.raises(stripe.CardError):
        target.charge(owner.id, "pm_card_chargeDeclined")
    target.charge(owner.id, target.saved_card(owner.id, "pm_card_bypassPending").id, 5000)
    net = sum(amounts) - sum(fee_of(a) for a in amounts)
    balance = target.v1.balance.retrieve()
    assert (balance.pending[0].amount, balance.available[0].amount) == (net, 5000 - fee_of(5000))
    control.advance(PAYS_OUT_AFTER_S)
    balance = target.v1.balance.retrieve()
    assert (balance.pending[0].amount, balance.available[0].amount) == (0, net + 5000 - 175)
    entries = list(target.v1.balance_transactions.list({"limit": 2}).auto_paging_iter())
    assert sum(e.net for e in entries) == balance.available[0].amount
    assert {e.status for e in entries} == {"available"}


def test_fees_round_half_up() -> None:
    assert [fee_of(a) for a in (50, 100, 1000, 10_000, 50_017)] == [31, 33, 59, 320, 1480]


def test_events_page_filter_and_expire(target: Target) -> None:
    control = target.control
    for _ in range(3):
        target.customer()
    owner = target.customer()
    target.charge(owner.id, target.saved_card(owner.id).id)
    events = target.v1.events
    every = [e.id for e in events.list({"limit": 3}).auto_paging_iter()]
    assert every == [e["id"] for e in reversed(control.objects("event"))]
    made = list(events.list({"type": "customer.created"}).auto_paging_iter())
    assert len(made) == 4
    two = events.list({"types": ["charge.succeeded", "payment_intent.succeeded"]}).data
    assert {e.type for e in two} == {"charge.succeeded", "payment_intent.succeeded"}
    assert events.retrieve(every[0]).id == every[0]
    newest = events.list({"limit": 1}).data[0]
    assert events.list({"created": {"gt": newest.created}}).data == []
    control.advance(31 * 24 * 3600)
    assert events.list().data == []


def test_expansion_follows_ids_and_refuses_what_is_none(target: Target) -> None:
    owner = target.customer()
    paid = target.charge(owner.id, target.saved_card(owner.id).id, expand=["customer"])
    assert paid.customer.email == "renter@example.com"
    listed = target.v1.payment_intents.list({"customer": owner.id, "expand": ["data.customer"]})
    assert listed.data[0].customer.id == owner.id
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        target.v1.payment_intents.retrieve(paid.id, {"expand": ["colour"]})
