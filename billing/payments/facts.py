"""What we learned from Stripe about one object: plain values, made by the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from billing.contracts import InvoiceState, PaymentState


@dataclass(frozen=True)
class PaymentFact:
    """A PaymentIntent. amount_minor is what was received when it succeeded, else what is asked."""

    stripe_id: str
    state: PaymentState
    amount_minor: int
    currency: str  # upper case
    fee_minor: int | None  # None until Stripe's balance transaction is known
    failure: str | None
    card_brand: str = ""  # of the card that paid
    card_last4: str = ""


@dataclass(frozen=True)
class SessionFact:
    """A Checkout session."""

    stripe_id: str
    status: str  # open, complete, expired
    url: str | None


@dataclass(frozen=True)
class CardFact:
    """A saved card. customer: Stripe's id of the owner, None once detached."""

    stripe_id: str
    customer: str | None
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    fingerprint: str = ""  # the same for one card wherever it is saved


@dataclass(frozen=True)
class InvoiceFact:
    """An invoice. payments: the succeeded payments that paid it."""

    stripe_id: str
    state: InvoiceState
    total_minor: int
    currency: str
    number: str | None
    hosted_url: str | None
    payments: tuple[PaymentFact, ...] = ()


@dataclass(frozen=True)
class ObjectFact:
    """Any object, as far as a person needs to find it. customer: Stripe's id, "" without one."""

    stripe_id: str
    type: str
    status: str
    amount_minor: int | None
    currency: str
    customer: str
