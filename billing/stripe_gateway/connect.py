"""Fetch recipients, transfers, their payouts and our balance as they are now, as our facts."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import stripe

from billing.models import StripeBalance
from billing.payouts.facts import AccountFact, BankFact, LinkFact, TransferFact
from billing.stripe_gateway.client import call
from kernel.clock import now
from kernel.money import CURRENCY, from_minor

INCLUDE = ["configuration.recipient", "requirements"]
# A payout to a bank carries what came since the last one: more than this is not ours alone.
DEEPEST = 1_000
NEWEST = 20


class Cash(NamedTuple):
    """Our own balance at Stripe, in cents."""

    available_minor: int
    pending_minor: int


def cash() -> Cash:
    """Read our balance, and keep what it was for people."""
    found = call(lambda client: client.v1.balance.retrieve())
    read = Cash(_own(found.available), _own(found.pending))
    StripeBalance.objects.update_or_create(
        currency=CURRENCY,
        defaults={
            "available_micro": from_minor(read.available_minor),
            "pending_micro": from_minor(read.pending_minor),
            "read_at": now(),
        },
    )
    return read


def account(stripe_id: str) -> Any:
    """A connected account with what it may do and what Stripe still asks for."""
    params: Any = {"include": INCLUDE}
    return call(lambda client: client.v2.core.accounts.retrieve(stripe_id, params))


def account_fact(found: Any) -> AccountFact:
    """Whether money reaches it, and the open requirements that wait for its owner."""
    plain = found.to_dict(for_json=True)
    state: Any = plain
    for name in ("configuration", "recipient", "capabilities", "stripe_balance"):
        state = state.get(name) or {}
    entries = (plain.get("requirements") or {}).get("entries") or []
    return AccountFact(
        stripe_id=found.id,
        receives=(state.get("stripe_transfers") or {}).get("status") == "active",
        requirements=tuple(
            str(entry.get("description"))[:200]
            for entry in entries
            if entry.get("awaiting_action_from") == "user"
        ),
    )


def link_fact(found: Any) -> LinkFact:
    """Stripe's page and until when it opens."""
    return LinkFact(url=found.url, expires_at=datetime.fromisoformat(found.expires_at))


def transfer(stripe_id: str) -> stripe.Transfer:
    """A transfer with how much of it was taken back."""
    return call(lambda client: client.v1.transfers.retrieve(stripe_id))


def transfer_fact(found: stripe.Transfer) -> TransferFact:
    """Amounts of a transfer and the payment that it became."""
    payment = found.destination_payment
    return TransferFact(
        stripe_id=found.id,
        amount_minor=found.amount,
        reversed_minor=found.amount_reversed,
        currency=found.currency.upper(),
        destination=payment if isinstance(payment, str) else payment.id if payment else "",
    )


def bank_payout(account_id: str, payout_id: str) -> BankFact:
    """One payout of a connected account and the payments that it carries to the bank."""
    found = call(lambda client: client.v1.payouts.retrieve(payout_id, {}, _of(account_id)))
    return _bank_fact(account_id, found)


def bank_payouts(account_id: str, since: datetime) -> list[BankFact]:
    """A connected account's newest payouts made since then."""
    params: Any = {"created": {"gte": int(since.timestamp())}, "limit": NEWEST}
    rows = call(lambda client: client.v1.payouts.list(params, _of(account_id)).data)
    return [_bank_fact(account_id, row) for row in rows]


def _bank_fact(account_id: str, found: stripe.Payout) -> BankFact:
    params: Any = {"payout": found.id, "type": "payment", "limit": 100}
    rows = call(
        lambda client: list(
            islice(
                client.v1.balance_transactions.list(params, _of(account_id)).auto_paging_iter(),
                DEEPEST,
            )
        )
    )
    sources = (row.source for row in rows)
    return BankFact(
        stripe_id=found.id,
        status=found.status,
        arrives_at=datetime.fromtimestamp(found.arrival_date, tz=UTC),
        failure=found.failure_message or found.failure_code or "",
        sources=tuple(one if isinstance(one, str) else one.id for one in sources if one),
    )


def _of(account_id: str) -> Any:
    """Request options that speak for a connected account."""
    return {"stripe_account": account_id}


def _own(amounts: Any) -> int:
    return sum(row.amount for row in amounts if row.currency == CURRENCY.lower())
