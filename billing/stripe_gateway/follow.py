"""Look after providers' accounts and payouts that no event told of.

Stripe lists a connected account's events under that account only, and thin events by object, so
the poller of our own list does not see them. What is under way is few, and is looked at by itself.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db.models import Min

from billing.contracts.payouts import AccountState, LineState
from billing.models import PayoutAccount, PayoutLine
from billing.payouts import account, converge
from billing.stripe_gateway import connect
from kernel.clock import now
from kernel.errors import PermanentError, VendorError
from kernel.lanes import lane

log = structlog.get_logger(__name__)
# Banks may send money back some working days after they took it.
STILL_MOVING = timedelta(days=14)


def follow() -> int:
    """Read our balance, open accounts and what is sent and not paid yet; the calls that failed."""
    with lane("stripe_follow") as free:
        if not free:
            return 0
        try:
            connect.cash()
            return _accounts() + _payouts()
        except VendorError as error:  # Stripe is away: the next round looks again
            log.warning("stripe_follow_failed", error=str(error))
            return 1


def _accounts() -> int:
    rows = PayoutAccount.objects.exclude(stripe_id=None).exclude(state=AccountState.FAILED)
    failed = 0
    for name in rows.order_by("seen_at").values_list("stripe_id", flat=True)[:200]:
        assert name is not None
        try:
            account_seen(name)
        except PermanentError as error:
            failed += 1
            log.error("payout_account_gone", account=name, error=str(error))
    return failed


def account_seen(name: str) -> bool:
    """Fetch an account and converge on it; False when it is none of ours."""
    return account.seen(name, connect.account_fact(connect.account(name)))


def _payouts() -> int:
    failed = 0
    moving = PayoutLine.objects.filter(
        state__in=[LineState.SENT, LineState.PAID, LineState.FAILED],
        sent_at__gt=now() - STILL_MOVING,
    )
    oldest = moving.values("account").annotate(since=Min("sent_at")).order_by("account")
    for row in oldest:
        try:
            # Oldest first, so that the last word about a payment is the newest payout's.
            for fact in reversed(connect.bank_payouts(row["account"], row["since"])):
                converge.bank_seen(row["account"], fact)
        except PermanentError as error:
            failed += 1
            log.error("bank_payouts_unreadable", account=row["account"], error=str(error))
    return failed
