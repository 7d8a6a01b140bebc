"""The signature check agrees with Stripe's own package, and refuses everything else."""

from __future__ import annotations

import time

import pytest

from billing.payments.webhook import TOLERANCE, verified

SECRET = "whsec_test"
BODY = b'{"id": "evt_1", "type": "payment_intent.succeeded"}'


def header(body: bytes = BODY, secret: str = SECRET, at: int | None = None) -> str:
    import stripe

    stamp = int(time.time()) if at is None else at
    signed = stripe.WebhookSignature._compute_signature(f"{stamp}.{body.decode()}", secret)
    return f"t={stamp},v1={signed}"


def test_what_stripe_signed_is_accepted():
    import stripe

    given = header()
    assert stripe.WebhookSignature.verify_header(BODY.decode(), given, SECRET, TOLERANCE)
    assert verified(BODY, given, secret=SECRET, at=time.time())
    rolled = given + "," + header(secret="whsec_old").split(",")[1]
    assert verified(BODY, rolled, secret=SECRET, at=time.time())


@pytest.mark.parametrize(
    "given",
    [
        lambda: "",
        lambda: "t=,v1=",
        lambda: "t=abc,v1=00",
        lambda: "v1=00",
        lambda: header(secret="whsec_other"),
        lambda: header(body=b"{}"),
        lambda: header(at=int(time.time()) - TOLERANCE - 5),
        lambda: header(at=int(time.time()) + TOLERANCE + 5),
        lambda: header().replace("v1=", "v0="),
        lambda: header() + ",t=1",
        lambda: "t=" + "9" * 400 + ",v1=00",
    ],
)
def test_what_stripe_did_not_sign_now_is_refused(given):
    assert not verified(BODY, given(), secret=SECRET, at=time.time())
