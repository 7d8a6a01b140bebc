"""May a line's transfer be made at this moment? Asked just before each try: days may have passed
since its run was decided, and money that waits for cash also waits for what was held since."""

from __future__ import annotations

from billing.contracts.payouts import AccountState
from billing.models import PayoutAccount, PayoutHold, PayoutLine
from billing.payouts.breaks import open_breaks
from kernel.clock import now

NO_CASH = "Stripe's available balance is too small for this transfer. It is tried again."


def why_not(line: PayoutLine) -> str:
    """A sentence when it has to wait; empty when it may go."""
    if against := open_breaks():
        return " ".join(against)
    held = PayoutHold.objects.filter(provider_ref=line.provider_ref, released_at=None).first()
    if held is not None:
        return f"Held by the platform: {held.reason}"
    account = PayoutAccount.objects.get(provider_ref=line.provider_ref)
    if account.state != AccountState.ACTIVE:
        return f"The payout account is not ready at Stripe: {account.state}."
    if account.held_until is not None and account.held_until > now():
        return "The payout account was opened for a change."
    return ""
