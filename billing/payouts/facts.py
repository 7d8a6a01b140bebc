"""What Stripe says about recipients, transfers and payouts, reduced to plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class AccountFact:
    """A connected account. receives: transfers reach it, and go on to its bank."""

    stripe_id: str
    receives: bool
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class LinkFact:
    """Stripe's page for an account; it can be opened once."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class TransferFact:
    """A transfer to a connected account. destination: the payment that it became there."""

    stripe_id: str
    amount_minor: int
    reversed_minor: int
    currency: str
    destination: str


@dataclass(frozen=True)
class BankFact:
    """A connected account's payout to its bank. sources: the payments it carries."""

    stripe_id: str
    status: str  # pending, in_transit, paid, failed, canceled
    arrives_at: datetime
    failure: str
    sources: tuple[str, ...]
