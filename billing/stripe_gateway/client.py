"""Stripe's client: one address, one key, one limiter, no retries of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import stripe
from django.conf import settings
from django.db import connection

from billing.stripe_gateway.errors import translate

T = TypeVar("T")

# Stripe's default of 80 s would hold a worker that long; an answer after 15 s is looked up.
TIMEOUT = 15.0
# A test account allows 25 calls a second, a live one 100; each of few processes stays below.
PER_SECOND = 20.0


class Limiter:
    """At most ``rate`` calls a second, evenly spaced; waiting threads queue up."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may start."""
        with self._lock:
            present = time.monotonic()
            start = max(self._next, present)
            self._next = start + self._gap
        if start > present:
            time.sleep(start - present)


_limiter = Limiter(PER_SECOND)
# The package logs each request with its address; our loops log what matters of it.
logging.getLogger("stripe").setLevel(logging.WARNING)


def call(request: Callable[[stripe.StripeClient], T]) -> T:
    """Run one request; raises kernel.errors.VendorError. Never inside a transaction."""
    if connection.in_atomic_block:
        raise RuntimeError("no network inside a transaction: commit first, then call Stripe")
    _limiter.wait()
    try:
        return request(_client(settings.STRIPE_API_KEY, settings.STRIPE_API_BASE))
    except stripe.StripeError as error:
        raise translate(error) from error


@lru_cache(maxsize=4)
def _client(key: str, base: str) -> stripe.StripeClient:
    addresses: stripe._base_address.BaseAddresses = {}
    if not base.startswith("https://api.stripe.com"):
        addresses = {"api": base, "connect": base, "files": base, "meter_events": base}
    return stripe.StripeClient(
        key,
        base_addresses=addresses,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=TIMEOUT),
    )
