"""Faults of the API and of the webhooks: what the caller sees and what has happened."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from devstack.stripe.server import StripeSim
from tests.contract.conftest import Receiver, client_of

CREATE = {"method": "POST", "path": "/v1/customers"}


@pytest.fixture
def v1(sim: StripeSim) -> Any:
    return client_of(sim).v1


def _create(v1: Any, key: str = "cust:1") -> Any:
    return v1.customers.create({"name": "x"}, {"idempotency_key": key})


def _customers(sim: StripeSim) -> int:
    return len(sim.control.objects("customer"))


def test_an_error_before_the_effect_is_not_remembered(sim: StripeSim, v1: Any) -> None:
    sim.control.fail("error_before", **CREATE)
    with pytest.raises(stripe.APIError) as failed:
        _create(v1)
    assert failed.value.http_status == 500
    assert _customers(sim) == 0
    assert _create(v1).name == "x"
    assert _customers(sim) == 1


def test_an_error_after_the_effect_is_what_the_key_remembers(sim: StripeSim, v1: Any) -> None:
    sim.control.fail("error_after", **CREATE)
    for _ in range(3):
        with pytest.raises(stripe.APIError):
            _create(v1)
    assert _customers(sim) == 1
    # The way out that Stripe leaves: look the object up.
    assert len(v1.customers.list().data) == 1


@pytest.mark.parametrize(("kind", "made"), [("cut_before", 0), ("cut_after", 1)])
def test_a_cut_connection(sim: StripeSim, v1: Any, kind: str, made: int) -> None:
    sim.control.fail(kind, **CREATE)
    with pytest.raises(stripe.APIConnectionError):
        _create(v1)
    assert _customers(sim) == made
    again = _create(v1)
    assert _customers(sim) == 1
    assert sim.control.objects("customer")[0]["id"] == again.id


def test_a_delay_past_the_timeout_has_its_effect(sim: StripeSim) -> None:
    impatient: Any = stripe.StripeClient(
        sim.api_key,
        base_addresses={"api": sim.base_url},
        http_client=stripe.RequestsClient(timeout=0.3),
        max_network_retries=0,
    )
    sim.control.fail("hold_after", **CREATE)
    with pytest.raises(stripe.APIConnectionError):
        _create(impatient.v1)
    assert _customers(sim) == 1
    sim.control.release()
    assert _create(client_of(sim).v1).id == sim.control.objects("customer")[0]["id"]


def test_the_rate_limit(sim: StripeSim, v1: Any) -> None:
    sim.control.fail("rate_limit", times=2, **CREATE)
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            _create(v1)
    assert _create(v1).name == "x"
    assert _customers(sim) == 1


def test_the_sdk_retries_by_itself_what_it_can(sim: StripeSim) -> None:
    retrying: Any = stripe.StripeClient(
        sim.api_key, base_addresses={"api": sim.base_url}, max_network_retries=2
    )
    sim.control.fail("cut_after", **CREATE)
    assert _create(retrying.v1).name == "x"
    assert _customers(sim) == 1
    assert [r["status"] for r in sim.control.requests()] == ["cut", 200]


def test_a_fault_matches_method_path_count_and_skip(sim: StripeSim, v1: Any) -> None:
    sim.control.fail("error_before", method="POST", path="/v1/customers", skip=1, times=1)
    assert v1.customers.list().data == []
    assert _create(v1, "a").name == "x"
    with pytest.raises(stripe.APIError):
        _create(v1, "b")
    assert _create(v1, "b").name == "x"
    [fault] = sim.control.faults()
    assert (fault["hits"], fault["skip"]) == (1, 0)


@pytest.mark.parametrize(
    ("mode", "error"), [("cut", stripe.APIConnectionError), ("503", stripe.APIError)]
)
def test_the_whole_service_down(sim: StripeSim, v1: Any, mode: str, error: type[Exception]) -> None:
    sim.control.down(mode)
    for call in (lambda: _create(v1), v1.customers.list):
        with pytest.raises(error):
            call()
    sim.control.down(None)
    assert _create(v1).name == "x"
    assert _customers(sim) == 1


def test_an_unknown_fault_is_refused(sim: StripeSim) -> None:
    with pytest.raises(ControlError, match="unknown fault"):
        sim.control.fail("explode")
    with pytest.raises(ControlError, match="unknown fault option"):
        sim.control.fail("drop", color="red")


def test_reset_forgets_everything_but_the_endpoints(sim: StripeSim, v1: Any) -> None:
    sim.control.endpoint("http://127.0.0.1:9/", "whsec_x")
    _create(v1)
    sim.control.down("cut")
    sim.control.reset()
    assert v1.customers.list().data == []
    assert len(v1.webhook_endpoints.list().data) == 1
    assert _create(v1).name == "x"


# -- webhooks -----------------------------------------------------------------------------------


@pytest.fixture
def hooked(sim: StripeSim, receiver: Receiver, v1: Any) -> Any:
    """A client of an account whose webhooks arrive at the receiver."""
    sim.control.endpoint(receiver.url, receiver.secret)
    return v1


def test_webhooks_arrive_signed_and_in_order(
    sim: StripeSim, receiver: Receiver, hooked: Any
) -> None:
    made = [_create(hooked, f"cust:{n}").id for n in range(3)]
    events = receiver.wait(3)
    assert [e.data.object.id for e in events] == made
    assert events[0].request.idempotency_key == "cust:0"
    assert sim.control.flush() == {"delivered": 3}
    assert receiver.refused == 0
    [first, *_] = sim.control.objects("event")
    assert first["pending_webhooks"] == 0


def test_a_wrong_secret_does_not_verify(sim: StripeSim, receiver: Receiver, v1: Any) -> None:
    sim.control.endpoint(receiver.url, "whsec_another")
    _create(v1)
    sim.control.flush()
    assert (receiver.refused, receiver.events) == (1, [])


def test_a_refused_webhook_comes_again(sim: StripeSim, receiver: Receiver, hooked: Any) -> None:
    statuses = iter([500, 404, 200])
    receiver.answer = lambda event: next(statuses)
    _create(hooked)
    for count in (1, 2):
        receiver.wait(count)
        assert sim.control.flush() == {"pending": 1}
        sim.control.advance(60)
    events = receiver.wait(3)
    assert len({e.id for e in events}) == 1
    assert sim.control.flush() == {"delivered": 1}
    [delivery] = sim.control.deliveries()
    assert (delivery["attempts"], delivery["status"]) == (3, 200)


def test_a_receiver_that_stays_away_loses_the_event_after_three_days(
    sim: StripeSim, v1: Any
) -> None:
    sim.control.endpoint("http://127.0.0.1:9/", "whsec_x")
    _create(v1)
    for _ in range(14):
        sim.control.flush()
        sim.control.advance(12 * 3600 + 1)
    assert sim.control.flush() == {"failed": 1}
    # The event itself is still there for a poller.
    [event] = sim.control.objects("event")
    assert event["pending_webhooks"] == 1


def test_a_dropped_webhook_is_still_an_event(
    sim: StripeSim, receiver: Receiver, hooked: Any
) -> None:
    sim.control.fail("drop", event="customer.", times=1)
    _create(hooked, "a")
    second = _create(hooked, "b").id
    assert [e.data.object.id for e in receiver.wait(1)] == [second]
    assert sim.control.flush() == {"dropped": 1, "delivered": 1}
    assert len(hooked.events.list().data) == 2


def test_a_doubled_webhook(sim: StripeSim, receiver: Receiver, hooked: Any) -> None:
    sim.control.fail("double", times=1)
    _create(hooked)
    events = receiver.wait(2)
    assert events[0].id == events[1].id


def test_shuffled_webhooks(sim: StripeSim, receiver: Receiver, hooked: Any) -> None:
    sim.control.fail("shuffle", times=4)
    made = [_create(hooked, f"cust:{n}").id for n in range(4)]
    arrived = [e.data.object.id for e in receiver.wait(4)]
    assert sorted(arrived) == sorted(made)
    assert arrived != made


def test_a_delayed_webhook_is_overtaken(sim: StripeSim, receiver: Receiver, hooked: Any) -> None:
    sim.control.fail("delay", seconds=3600, times=1)
    late = _create(hooked, "a").id
    soon = _create(hooked, "b").id
    assert [e.data.object.id for e in receiver.wait(1)] == [soon]
    sim.control.advance(3600)
    assert [e.data.object.id for e in receiver.wait(2)] == [soon, late]


def test_redelivery_by_hand(sim: StripeSim, receiver: Receiver, hooked: Any) -> None:
    _create(hooked)
    [event] = receiver.wait(1)
    assert sim.control.redeliver(event.id) == 1
    assert [e.id for e in receiver.wait(2)] == [event.id] * 2
    with pytest.raises(ControlError, match="No such event"):
        sim.control.redeliver("evt_none")


def test_endpoints_by_the_api(receiver: Receiver, sim: StripeSim, v1: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="loopback"):
        v1.webhook_endpoints.create({"url": "https://example.com/", "enabled_events": ["*"]})
    with pytest.raises(stripe.InvalidRequestError):
        v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.made"]})
    made = v1.webhook_endpoints.create(
        {"url": receiver.url, "enabled_events": ["customer.deleted"]}
    )
    receiver.secret = made.secret
    gone = _create(v1).id
    v1.customers.delete(gone)
    assert [e.type for e in receiver.wait(1)] == ["customer.deleted"]
    v1.webhook_endpoints.update(made.id, {"disabled": True})
    v1.customers.delete(_create(v1, "b").id)
    sim.control.flush()
    assert len(receiver.events) == 1
    assert v1.webhook_endpoints.delete(made.id).deleted is True
    assert v1.webhook_endpoints.list().data == []
