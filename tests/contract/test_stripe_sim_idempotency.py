"""Idempotency keys: the same key gives the same result, whatever happens in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe

from devstack.stripe.server import StripeSim
from tests.contract.conftest import Target, client_of


def _key(text: str) -> dict[str, str]:
    return {"idempotency_key": text}


def _paying(owner: str, card: str, amount: int = 1000) -> dict[str, Any]:
    return {
        "amount": amount,
        "currency": "usd",
        "customer": owner,
        "payment_method": card,
        "off_session": True,
        "confirm": True,
    }


def test_the_same_key_and_parameters_give_the_same_object(target: Target, unique: str) -> None:
    owner = target.customer()
    params = _paying(owner.id, target.saved_card(owner.id).id)
    first = target.v1.payment_intents.create(params, _key(f"topup:{unique}:1"))
    again = target.v1.payment_intents.create(params, _key(f"topup:{unique}:1"))
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(target.v1.charges.list({"customer": owner.id}).data) == 1
    other = target.v1.payment_intents.create(params, _key(f"topup:{unique}:2"))
    assert other.id != first.id


def test_the_same_key_with_other_parameters_is_refused(target: Target, unique: str) -> None:
    target.v1.customers.create({"name": "a"}, _key(f"cust:{unique}"))
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        target.v1.customers.create({"name": "b"}, _key(f"cust:{unique}"))
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        target.v1.payment_intents.create({"amount": 500, "currency": "usd"}, _key(f"cust:{unique}"))


def test_a_decline_is_remembered(target: Target, unique: str) -> None:
    owner = target.customer()
    params = _paying(owner.id, "pm_card_chargeDeclined")
    answers = []
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            target.v1.payment_intents.create(params, _key(f"topup:{unique}:1"))
        answers.append(declined.value.json_body)
    assert answers[0] == answers[1]
    assert len(target.v1.charges.list({"customer": owner.id}).data) == 1


def test_a_refused_parameter_leaves_the_key_free(target: Target, unique: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.customers.create({"nome": "x"}, _key(f"cust:{unique}"))
    assert target.v1.customers.create({"name": "x"}, _key(f"cust:{unique}")).name == "x"


def test_a_refusal_without_effect_leaves_no_trace(sim: StripeSim) -> None:
    v1: Any = client_of(sim).v1
    owner = v1.customers.create({})
    before = sim.control.state()["objects"]
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError):
            # The card is made before its use is refused: the transaction takes it back.
            v1.payment_methods.attach("pm_card_visa", {"customer": "cus_nobody"}, _key("once"))
    after = sim.control.state()["objects"]
    assert after.pop("idempotency_key") == before.pop("idempotency_key") + 1
    assert after == before
    assert owner.id


def test_a_key_is_forgotten_after_a_day(sim: StripeSim) -> None:
    v1: Any = client_of(sim).v1
    first = v1.customers.create({}, _key("cust:1"))
    sim.control.advance(24 * 3600 - 60)
    assert v1.customers.create({}, _key("cust:1")).id == first.id
    sim.control.advance(120)
    assert v1.customers.create({}, _key("cust:1")).id != first.id


def test_the_same_key_while_the_first_is_running_is_409(sim: StripeSim) -> None:
    sim.control.fail("hold_before", method="POST", path="/v1/customers")
    results: list[Any] = []
    running = threading.Thread(
        target=lambda: results.append(
            client_of(sim).v1.customers.create({}, {"idempotency_key": "cust:1"})
        )
    )
    running.start()
    v1: Any = client_of(sim).v1
    sim.control.wait_held()
    with pytest.raises(stripe.APIError) as refused:
        v1.customers.create({}, _key("cust:1"))
    assert refused.value.http_status == 409
    body: Any = refused.value.json_body
    assert body["error"]["code"] == "idempotency_key_in_use"
    assert sim.control.release() == 1
    running.join(10)
    assert v1.customers.create({}, _key("cust:1")).id == results[0].id
    assert len(sim.control.objects("customer")) == 1


def test_one_key_sixty_four_times_at_once_acts_once(sim: StripeSim) -> None:
    v1: Any = client_of(sim).v1
    owner = v1.customers.create({})
    card = v1.payment_methods.attach("pm_card_visa", {"customer": owner.id})
    params = _paying(owner.id, card.id)
    barrier = threading.Barrier(64)
    seen: list[str] = []

    def pay() -> None:
        client: Any = client_of(sim)
        barrier.wait(30)
        try:
            seen.append(client.v1.payment_intents.create(params, _key("topup:1:1")).id)
        except stripe.APIError as error:
            seen.append(str(error.http_status))

    threads = [threading.Thread(target=pay) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    [intent] = sim.control.objects("payment_intent")
    assert len(seen) == 64
    assert set(seen) <= {intent["id"], "409"}
    assert intent["id"] in seen
    assert len(sim.control.objects("charge")) == 1


def test_requests_show_which_key_was_used(sim: StripeSim) -> None:
    v1: Any = client_of(sim).v1
    v1.customers.create({}, _key("cust:7"))
    v1.customers.create({}, _key("cust:7"))
    seen = [(r["idempotency_key"], r["status"], r["replayed"]) for r in sim.control.requests()]
    assert seen == [("cust:7", 200, False), ("cust:7", 200, True)]
