"""The oracle: what the installed SDK says about the API decides what the simulator accepts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
import stripe

from devstack.stripe import answers, oracle, sdk_source
from devstack.stripe.annotations import Later
from devstack.stripe.registry import HANDLERS
from devstack.stripe.server import StripeSim
from devstack.stripe.shapes import AnyOf, ListOf, MapOf, Nullable, Record, Shape
from tests.contract.conftest import Target, client_of


def test_the_table_covers_the_whole_api() -> None:
    operations = oracle.table().operations
    assert len(operations) > 500
    assert {m for m, _ in operations} == {"GET", "POST", "DELETE"}
    for known in (
        "/v1/refunds",
        "/v1/transfers",
        "/v2/core/accounts",
        "/v1/invoices/{invoice}/pay",
    ):
        assert ("POST", known) in operations


def _walk(shape: Shape, seen: set[int]) -> None:
    if id(shape) in seen:
        return
    seen.add(id(shape))
    match shape:
        case Later():
            _walk(shape.resolve(), seen)
        case Record():
            for inner in shape.fields.values():
                _walk(inner, seen)
        case ListOf() | MapOf():
            _walk(shape.item, seen)
        case Nullable():
            _walk(shape.inner, seen)
        case AnyOf():
            for inner in shape.options:
                _walk(inner, seen)


def test_every_parameter_type_of_every_operation_is_understood() -> None:
    seen: set[int] = set()
    for operation in oracle.table().operations.values():
        _walk(operation.shape, seen)
    assert len(seen) > 10_000


def test_per_request_options_are_not_parameters() -> None:
    shape = oracle.table().operations["POST", "/v1/customers"].shape
    assert "email" in shape.fields
    assert not {"api_key", "idempotency_key", "stripe_version", "headers"} & set(shape.fields)


def test_a_literal_path_segment_wins_over_a_placeholder() -> None:
    found = oracle.table().match("GET", "/v1/payment_intents/search")
    assert found is not None
    assert found[0].path == "/v1/payment_intents/search"
    found = oracle.table().match("GET", "/v1/payment_intents/pi_1")
    assert found is not None
    assert found[1] == {"intent": "pi_1"}


def test_every_simulated_operation_is_one_of_the_sdk() -> None:
    assert len(HANDLERS) > 60
    assert set(HANDLERS) <= set(oracle.table().operations)


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"amout": 100, "amount": 100, "currency": "usd"}, "parameter_unknown", "amout"),
    (
        {"amount": 100, "currency": "usd", "automatic_payment_methods": {"enabeld": True}},
        "parameter_unknown",
        "automatic_payment_methods[enabeld]",
    ),
    ({"amount": 100}, "parameter_missing", "currency"),
    ({"amount": "ten", "currency": "usd"}, "parameter_invalid_integer", "amount"),
    ({"amount": 10.5, "currency": "usd"}, "parameter_invalid_integer", "amount"),
    (
        {"amount": 100, "currency": "usd", "setup_future_usage": "sometimes"},
        None,
        "setup_future_usage",
    ),
    ({"amount": 100, "currency": "usd", "confirm": "yes"}, None, "confirm"),
    ({"amount": 100, "currency": "usd", "metadata": "text"}, None, "metadata"),
    (
        {"amount": 100, "currency": "usd", "description": ""},
        "parameter_invalid_empty",
        "description",
    ),
    ({"amount": 1, "currency": "usd"}, "amount_too_small", "amount"),
]


@pytest.mark.parametrize(("params", "code", "param"), REFUSED)
def test_a_wrong_parameter_is_refused_and_nothing_is_stored(
    target: Target, params: dict[str, Any], code: str | None, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        target.v1.payment_intents.create(params)
    assert refused.value.http_status == 400
    assert refused.value.param == param
    if code is not None:
        assert refused.value.code == code
    if target.sim is not None:
        assert target.control.objects("payment_intent") == []
        assert target.control.objects("event") == []


def test_payment_method_types_is_gone_from_the_pinned_version(target: Target) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="payment_method_types"):
        target.v1.payment_intents.create(
            {"amount": 100, "currency": "usd", "payment_method_types": ["card"]}
        )


def test_a_misspelt_list_filter_is_refused(target: Target) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        target.v1.customers.list({"mail": "a@example.com"})
    assert refused.value.code == "parameter_unknown"


def test_an_unknown_id_is_resource_missing(target: Target) -> None:
    with pytest.raises(stripe.InvalidRequestError) as missing:
        target.v1.customers.retrieve("cus_nobody")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")


# -- what only the simulator answers ------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda v1: v1.topups.create({"amount": 5, "currency": "usd"}),
        lambda v1: v1.subscriptions.list(),
        lambda v1: v1.coupons.list(),
    ],
)
def test_a_known_operation_that_is_missing_is_501(sim: StripeSim, call: Any) -> None:
    with pytest.raises(stripe.APIError, match="this simulator does not") as missing:
        call(client_of(sim).v1)
    assert missing.value.http_status == 501


def test_a_v2_operation_is_checked_and_then_501(sim: StripeSim) -> None:
    v2: Any = client_of(sim).v2
    with pytest.raises(stripe.StripeError) as missing:
        v2.core.account_tokens.create({"contact_email": "provider@example.com"})
    assert missing.value.http_status == 501
    with pytest.raises(stripe.StripeError) as refused:
        v2.core.account_tokens.create({"contact_mail": "provider@example.com"})
    assert refused.value.http_status == 400


@pytest.mark.parametrize(
    "more",
    [{"transfer_group": "x"}, {"capture_method": "manual"}, {"payment_method": "pm_card_jcb"}],
)
def test_a_known_parameter_that_is_missing_is_501(sim: StripeSim, more: dict[str, Any]) -> None:
    v1: Any = client_of(sim).v1
    with pytest.raises(stripe.APIError) as missing:
        v1.payment_intents.create({"amount": 100, "currency": "usd", **more})
    assert missing.value.http_status == 501
    assert sim.control.objects("payment_intent") == []


def test_another_currency_is_501(sim: StripeSim) -> None:
    v1: Any = client_of(sim).v1
    with pytest.raises(stripe.APIError) as missing:
        v1.payment_intents.create({"amount": 100, "currency": "eur"})
    assert missing.value.http_status == 501


def _raw(sim: StripeSim, path: str, *, body: bytes | None, **headers: str) -> tuple[int, Any]:
    given = {"Authorization": f"Bearer {sim.api_key}"}
    given |= {k.replace("_", "-"): v for k, v in headers.items()}
    request = urllib.request.Request(sim.base_url + path, data=body, headers=given)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_post_without_idempotency_key_is_refused(sim: StripeSim) -> None:
    status, body = _raw(sim, "/v1/customers", body=b"email=a%40example.com")
    assert (status, body["error"]["code"]) == (400, "idempotency_key_missing")
    status, body = _raw(sim, "/v1/customers", body=b"", Idempotency_Key="cust:1")
    assert (status, body["object"]) == (200, "customer")


def test_another_api_version_is_refused(sim: StripeSim) -> None:
    status, body = _raw(sim, "/v1/customers", body=None, Stripe_Version="2020-08-27")
    assert status == 400
    assert sdk_source.api_version() in body["error"]["message"]
    status, _ = _raw(sim, "/v1/customers", body=None, Stripe_Version=sdk_source.api_version())
    assert status == 200


@pytest.mark.parametrize("path", ["/v1/customer", "/v1/", "/v1/charges/ch_1/none", "/v2/nothing"])
def test_an_unknown_path_is_404(sim: StripeSim, path: str) -> None:
    status, body = _raw(sim, path, body=None)
    assert status == 404
    assert "Unrecognized request URL" in body["error"]["message"]


def test_a_wrong_api_key_is_401(sim: StripeSim) -> None:
    status, _ = _raw(sim, "/v1/customers", body=None, Authorization="Bearer sk_test_other")
    assert status == 401


@pytest.mark.parametrize(
    "body",
    [b"a[b]=1&a=2", b"[]=1", b"a" + b"[b]" * 50 + b"=1", b"\xff\xfe=1", b"metadata[x][y]=1"],
)
def test_a_malformed_body_is_a_clear_400(sim: StripeSim, body: bytes) -> None:
    status, answer = _raw(sim, "/v1/customers", body=body, Idempotency_Key="k")
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"


def test_another_account_is_501(sim: StripeSim) -> None:
    status, _ = _raw(sim, "/v1/customers", body=None, Stripe_Account="acct_1")
    assert status == 501


def test_requests_for_a_foreign_host_are_refused(sim: StripeSim) -> None:
    status, _ = _raw(sim, "/v1/customers", body=None, Host="evil.example.com")
    assert status == 403


def test_control_needs_json_so_that_no_foreign_page_can_call_it(sim: StripeSim) -> None:
    status, _ = _raw(sim, "/_sim/reset", body=b"", Content_Type="text/plain")
    assert status == 415


def test_an_answer_that_stripe_would_not_send_is_caught() -> None:
    customer = answers.blank("customer", id="cus_1", created=1)
    answers.check(customer)
    for wrong in ({"surname": "x"}, {"tax_exempt": "maybe"}, {"created": "yesterday"}):
        with pytest.raises(answers.AnswerError):
            answers.check(customer | wrong)
    with pytest.raises(answers.AnswerError, match="created"):
        answers.check({k: v for k, v in customer.items() if k != "created"})
