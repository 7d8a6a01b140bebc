"""Stripe's exceptions as ours: temporary, permanent, or unknown outcome; causes stay chained."""

from __future__ import annotations

import stripe

from kernel.errors import PermanentError, TemporaryError, UnknownOutcome, VendorError


class ServerError(UnknownOutcome):
    """Stripe answered 5xx: it may have acted, and its key may replay this answer for ever."""


class NotReady(TemporaryError):
    """What this call needs is not there yet: an object that its own intent makes, or cash.

    Nothing was sent; other intents go on meanwhile.
    """


class Stuck(Exception):
    """There is no safe way to go on: a person has to look."""


def translate(error: stripe.StripeError) -> VendorError:
    """The error of kernel.errors that tells a loop what to do."""
    text = error.user_message or str(error)
    if isinstance(error, stripe.RateLimitError):
        return TemporaryError(text, delay=_retry_after(error))
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        # Our key is wrong or lacks a right. Nobody's payment may fail for that: wait for us.
        return TemporaryError(text, delay=60)
    if isinstance(error, stripe.APIConnectionError):
        return UnknownOutcome(text)
    status = error.http_status or 0
    if status == 409:
        return TemporaryError(text, delay=2)
    if status >= 500 or not status:
        return ServerError(text)
    return PermanentError(text, code=_code(error))


def _code(error: stripe.StripeError) -> str:
    if isinstance(error, stripe.IdempotencyError):
        return "idempotency_mismatch"
    if error.code:
        return str(error.code)
    param = getattr(error, "param", None)
    return f"invalid_{param}" if param else "refused"


def _retry_after(error: stripe.StripeError) -> float:
    text = dict(error.headers or {}).get("Retry-After", "")
    return min(float(text), 60.0) if text.isdigit() else 2.0
