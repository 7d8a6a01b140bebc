"""A Stripe account for the contract tests: the simulator, or a sandbox of the real Stripe.

With STRIPE_API_KEY set to an sk_test_ key the same tests run against Stripe itself. What only
the simulator can do (faults, its clock, its pages) is then skipped with that reason.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from devstack.stripe.control import Control
from devstack.stripe.server import StripeSim


@dataclass
class Target:
    """The account under test and a client of the real SDK for it."""

    client: stripe.StripeClient
    sim: StripeSim | None

    @property
    def v1(self) -> Any:
        """The SDK's v1 services (untyped: tests pass wrong parameters on purpose)."""
        return self.client.v1

    @property
    def control(self) -> Control:
        """The simulator's controls; skips when the account is a real sandbox."""
        if self.sim is None:
            pytest.skip("needs the simulator's controls; a real Stripe sandbox has none")
        return self.sim.control

    def customer(self, **fields: Any) -> Any:
        return self.v1.customers.create({"email": "renter@example.com", **fields})

    def saved_card(self, customer: str, name: str = "pm_card_visa") -> Any:
        """A test card attached to a customer."""
        return self.v1.payment_methods.attach(name, {"customer": customer})

    def charge(self, customer: str, method: str, amount: int = 1000, **more: Any) -> Any:
        """An off-session payment with a saved card."""
        return self.v1.payment_intents.create(
            {
                "amount": amount,
                "currency": "usd",
                "customer": customer,
                "payment_method": method,
                "off_session": True,
                "confirm": True,
                **more,
            }
        )


def client_of(sim: StripeSim) -> stripe.StripeClient:
    """A client of the real SDK that talks to a simulator and never retries by itself."""
    return stripe.StripeClient(
        sim.api_key,
        base_addresses={"api": sim.base_url},
        http_client=stripe.RequestsClient(timeout=5),
        max_network_retries=0,
    )


@pytest.fixture
def sim() -> Iterator[StripeSim]:
    """A fresh simulator."""
    with StripeSim() as running:
        yield running
        # Whatever a test did, money must add up and no answer may have been a slip of ours.
        assert running.control.state()["problems"] == []
        codes = [r["code"] for r in running.control.requests()]
        assert "simulator_fault" not in codes


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """Stripe's sandbox when STRIPE_API_KEY holds a test key for it, else a fresh simulator."""
    key = os.environ.get("STRIPE_API_KEY", "")
    base = os.environ.get("STRIPE_API_BASE", stripe.DEFAULT_API_BASE).rstrip("/")
    if key.startswith("sk_test_") and base == stripe.DEFAULT_API_BASE:
        return Target(stripe.StripeClient(key, max_network_retries=2), None)
    running: StripeSim = request.getfixturevalue("sim")
    return Target(client_of(running), running)


@pytest.fixture
def unique() -> str:
    """A text that no other run used, since a sandbox keeps what earlier runs made."""
    return uuid.uuid4().hex[:12]


@dataclass
class Receiver:
    """A webhook receiver that checks signatures with the real SDK and keeps what arrived."""

    secret: str
    url: str = ""
    answer: Callable[[stripe.Event], int] = lambda event: 200
    events: list[Any] = field(default_factory=list)
    refused: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def receive(self, body: bytes, signature: str) -> int:
        try:
            event = stripe.Webhook.construct_event(body, signature, self.secret)
        except stripe.SignatureVerificationError:
            with self.changed:
                self.refused += 1
                self.changed.notify_all()
            return 400
        status = self.answer(event)
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()
        return status

    def wait(self, count: int, timeout: float = 10) -> list[Any]:
        """Wait until `count` events have arrived and return all of them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, timeout), self.types()
            return list(self.events)

    def types(self) -> list[str]:
        return [e.type for e in self.events]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running webhook receiver."""
    kept = Receiver("whsec_contract")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = kept.receive(body, self.headers["Stripe-Signature"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/webhook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
