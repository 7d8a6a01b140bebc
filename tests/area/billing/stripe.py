"""Billing's loops against the Stripe simulator: the real SDK over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.models import StripeCall, StripeEvent
from billing.stripe_gateway import execute, inbox, poll
from devstack.stripe.control import Control
from devstack.stripe.server import StripeSim
from kernel.clock import AppNow

RETURN = "https://example.com/billing"


@pytest.fixture(scope="session", name="simulator")
def stripe_simulator() -> Iterator[StripeSim]:
    """One simulator for the run; each test starts with an empty account."""
    with StripeSim() as running:
        yield running


@pytest.fixture(name="stripe")
def stripe_account(simulator: StripeSim, settings, transactional_db) -> Control:
    """An empty account that the product talks to."""
    simulator.control.reset()
    settings.STRIPE_API_BASE = simulator.base_url
    settings.STRIPE_API_KEY = simulator.api_key
    settings.STRIPE_WEBHOOK_SECRET = simulator.webhook_secret
    return simulator.control


def hurry() -> None:
    """Make everything that waits for its next attempt due now."""
    StripeCall.objects.filter(state="pending").update(next_at=AppNow())
    StripeEvent.objects.filter(applied_at__isnull=True).update(next_at=AppNow())


def send() -> None:
    """Execute intents until nothing is left to do without waiting."""
    while execute.drain():
        pass


def receive() -> None:
    """Read Stripe's events and apply them."""
    poll.poll()
    while inbox.drain():
        pass


def topup(org: UUID, micro: int, method: UUID | None = None) -> UUID:
    with transaction.atomic():
        return facade.start_topup(
            org_ref=org, amount_micro=micro, return_url=RETURN, payment_method_id=method
        ).id


def save_card(stripe: Control, org: UUID, number: str = "4242424242424242") -> UUID:
    """Save a card on Stripe's page; the id of the payment method here."""
    with transaction.atomic():
        setup = facade.start_card_setup(org_ref=org, return_url=RETURN)
    send()
    page = facade.card_setup(org_ref=org, setup_id=setup.id)
    assert page.url is not None
    stripe.pay_page(page.url, number)
    receive()
    assert facade.card_setup(org_ref=org, setup_id=setup.id).state == "succeeded"
    return facade.payment_methods(org_ref=org)[0].id


@contextmanager
def failing(stripe: Control, kind: str, path: str, **match: object) -> Iterator[None]:
    """One fault on POSTs to ``path``, checked to have hit."""
    number = stripe.fail(kind, method="POST", path=path, **match)
    yield
    hits = {fault["id"]: fault["hits"] for fault in stripe.faults()}
    assert hits.get(number), f"the fault {kind} on {path} hit nothing"
    stripe.clear()
