"""What each kind of intent asks of Stripe, how to find it there, and what its answer changes here.

``send`` and ``look`` speak to Stripe and read our rows; ``apply`` and ``refuse`` only write our
rows. Parameters come from rows that never change, so the same key always carries the same request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import stripe

from billing.models import CallKind, CallState, Customer, StripeCall, TopUp
from billing.payments import converge
from billing.stripe_gateway import read
from billing.stripe_gateway.client import call
from billing.stripe_gateway.errors import NotReady
from kernel.errors import PermanentError
from kernel.money import to_minor

T = TypeVar("T")
Params = dict[str, Any]
# Clocks differ and lists lag a little: look from this long before the first attempt.
MARGIN = timedelta(hours=1)
# An object of ours is among a customer's newest of its kind; beyond this many it is not there.
DEEPEST = 500


class Step(ABC):
    """One kind of intent."""

    kind: ClassVar[CallKind]
    # False: Stripe keeps no object that could be found again, so an old attempt is never repeated.
    findable: ClassVar[bool] = True

    @abstractmethod
    def send(self, intent: StripeCall, key: str) -> Any:
        """Ask Stripe; the answer goes to ``apply``."""

    @abstractmethod
    def look(self, intent: StripeCall) -> Any:
        """The object an earlier attempt made, or None."""

    @abstractmethod
    def apply(self, intent: StripeCall, found: Any) -> None:
        """Write down what Stripe answered."""

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:  # noqa: B027
        """Stripe will not do it; by default the intent alone keeps the reason."""


def options(key: str) -> Any:
    """The request options that carry our idempotency key."""
    return {"idempotency_key": key}


def since(intent: StripeCall) -> Params:
    """The creation time filter of a look."""
    first = intent.first_sent_at or intent.created_at
    return {"gte": int((first - MARGIN).timestamp())}


def adopt(rows: Iterable[T], name: str, value: object) -> T | None:
    """The newest object whose metadata carries our id under ``name``."""
    for row in islice(rows, DEEPEST):
        if str(read.ours(row, name)) == str(value):
            return row
    return None


def owner(intent: StripeCall) -> Customer:
    """The organization that the intent belongs to."""
    assert intent.org_ref is not None
    return Customer.objects.get(org_ref=intent.org_ref)


def customer_id(intent: StripeCall) -> str:
    """Stripe's id of the organization; NotReady until its own intent was executed."""
    customer = owner(intent)
    if customer.stripe_id is not None:
        return customer.stripe_id
    if StripeCall.objects.filter(key=f"cust:{customer.org_ref}", state=CallState.FAILED).exists():
        raise PermanentError(
            "Stripe refused this organization as a customer. Write to support.", code="no_customer"
        )
    raise NotReady("the customer is not at Stripe yet")


class CreateCustomer(Step):
    kind = CallKind.CUSTOMER

    def send(self, intent: StripeCall, key: str) -> stripe.Customer:
        customer = owner(intent)
        params: Any = {
            "email": customer.email,
            "name": customer.name,
            "metadata": {read.ORG: str(customer.org_ref)},
        }
        return call(lambda client: client.v1.customers.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.Customer | None:
        params: Any = {"created": since(intent), "limit": 100}
        return call(
            lambda client: adopt(
                client.v1.customers.list(params).auto_paging_iter(), read.ORG, intent.org_ref
            )
        )

    def apply(self, intent: StripeCall, found: stripe.Customer) -> None:
        converge.customer_created(UUID(intent.subject), found.id)


class _Checkout(Step):
    """A page of Stripe's: the answer is a session with an address."""

    name: ClassVar[str]

    def params(self, intent: StripeCall) -> Params:
        raise NotImplementedError

    def send(self, intent: StripeCall, key: str) -> stripe.checkout.Session:
        params: Any = self.params(intent) | {
            "customer": customer_id(intent),
            "metadata": {self.name: intent.subject},
        }
        return call(lambda client: client.v1.checkout.sessions.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.checkout.Session | None:
        params: Any = {
            "customer": customer_id(intent),
            "created": since(intent),
            "limit": 100,
        }
        return call(
            lambda client: adopt(
                client.v1.checkout.sessions.list(params).auto_paging_iter(),
                self.name,
                intent.subject,
            )
        )


class TopUpCheckout(_Checkout):
    kind = CallKind.TOPUP_CHECKOUT
    name = read.TOPUP

    def params(self, intent: StripeCall) -> Params:
        topup = TopUp.objects.get(id=intent.subject)
        price: Params = {
            "currency": topup.currency.lower(),
            "unit_amount": to_minor(topup.amount_micro),
            "product_data": {"name": "GPU rental credit"},
        }
        if topup.taxed:
            # The page taxes by the address that the customer has; a better one is kept there.
            price["tax_behavior"] = "exclusive"
            taxes: Params = {
                "automatic_tax": {"enabled": True},
                "customer_update": {"address": "auto"},
            }
        else:
            taxes = {}
        return taxes | {
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": topup.return_url,
            "cancel_url": topup.return_url,
            "client_reference_id": intent.subject,
            "payment_intent_data": {"metadata": {read.TOPUP: intent.subject}},
        }

    def apply(self, intent: StripeCall, found: stripe.checkout.Session) -> None:
        converge.topup_session(UUID(intent.subject), read.session_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.topup_refused(UUID(intent.subject), str(error), error.code)


class CardSetupPage(_Checkout):
    kind = CallKind.CARD_SETUP
    name = read.SETUP

    def params(self, intent: StripeCall) -> Params:
        from billing.models import CardSetup

        setup = CardSetup.objects.get(id=intent.subject)
        return {
            "mode": "setup",
            "currency": "usd",
            "success_url": setup.return_url,
            "cancel_url": setup.return_url,
            "setup_intent_data": {"metadata": {read.SETUP: intent.subject}},
        }

    def apply(self, intent: StripeCall, found: stripe.checkout.Session) -> None:
        converge.setup_session(UUID(intent.subject), read.session_fact(found), None)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.setup_refused(UUID(intent.subject), str(error))


class TopUpCharge(Step):
    """A saved card charged while its owner is away."""

    kind = CallKind.TOPUP_CHARGE

    def send(self, intent: StripeCall, key: str) -> stripe.PaymentIntent:
        topup = TopUp.objects.select_related("method").get(id=intent.subject)
        assert topup.method is not None
        params: Any = {
            "amount": to_minor(topup.amount_micro) + (topup.tax_minor or 0),
            "currency": topup.currency.lower(),
            "customer": customer_id(intent),
            "payment_method": topup.method.stripe_id,
            "confirm": True,
            "off_session": True,
            "metadata": {read.TOPUP: intent.subject},
            "expand": ["latest_charge.balance_transaction"],
        }
        return call(lambda client: client.v1.payment_intents.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.PaymentIntent | None:
        params: Any = {
            "customer": customer_id(intent),
            "created": since(intent),
            "limit": 100,
        }
        found = call(
            lambda client: adopt(
                client.v1.payment_intents.list(params).auto_paging_iter(),
                read.TOPUP,
                intent.subject,
            )
        )
        return None if found is None else read.payment_intent(found.id)

    def apply(self, intent: StripeCall, found: stripe.PaymentIntent) -> None:
        converge.topup_payment(UUID(intent.subject), read.payment_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.topup_refused(UUID(intent.subject), str(error), error.code)
