"""Make a payout agree with what Stripe says now; saying it twice, late or shuffled is harmless.

The line's row is the lock. Each leg is booked from what the line has not booked yet, so the same
fact books nothing a second time.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction

from billing.contracts.payouts import LineState
from billing.ledger.accounts import account
from billing.ledger.post import Entry, post
from billing.models import (
    AccountKind,
    CallKind,
    CauseType,
    PayoutLine,
    Transaction,
    TransactionKind,
)
from billing.payments.intents import intend
from billing.payouts.facts import BankFact, TransferFact
from kernel.clock import now
from kernel.money import from_minor

log = structlog.get_logger(__name__)
_Kind = TransactionKind


def transfer_seen(line_id: UUID, fact: TransferFact) -> bool:
    """A line's transfer: books what was sent, and what was taken back since. False when there is
    no such line."""
    with transaction.atomic():
        line = PayoutLine.objects.select_for_update().filter(id=line_id).first()
        if line is None:
            return False
        if from_minor(fact.amount_minor) != line.amount_micro:
            alarm(line, f"Stripe's transfer {fact.stripe_id} is of {fact.amount_minor} cents.")
            line.save()
            return True
        if line.stripe_id is None:
            _sent(line, fact)
        elif line.stripe_id != fact.stripe_id:
            alarm(line, f"There is a second transfer at Stripe: {fact.stripe_id}.")
        else:
            _reversed(line, fact)
        line.save()
    return True


def transfer_refused(line_id: UUID, reason: str) -> None:
    """Stripe will not make the transfer: what was to be paid is due again."""
    with transaction.atomic():
        line = PayoutLine.objects.select_for_update().get(id=line_id)
        if line.state == LineState.CLEARING:
            _back(line, AccountKind.PROVIDER_CLEARING, line.amount_micro)
            line.state, line.reason = LineState.RETURNED, reason[:500]
            line.save()


def waits(line_id: UUID, reason: str) -> None:
    """Its transfer can not be made yet; people see why."""
    log.error("payout_waits", line=str(line_id), reason=reason)
    PayoutLine.objects.filter(id=line_id, state=LineState.CLEARING).update(reason=reason[:500])


def waits_for_person(line_id: UUID, reason: str) -> None:
    """It goes no further by itself."""
    line = PayoutLine.objects.get(id=line_id)
    alarm(line, reason)
    line.save(update_fields=["reason"])


def bank_seen(account_id: str, fact: BankFact) -> bool:
    """What Stripe paid on to a provider's bank, or could not; False when no line is in it."""
    with transaction.atomic():
        lines = list(
            PayoutLine.objects.select_for_update()
            .filter(account=account_id, destination__in=fact.sources)
            .order_by("id")
        )
        for line in lines:
            _paid_on(line, fact)
            line.save()
    return bool(lines)


def alarm(line: PayoutLine, text: str) -> None:
    """Note on the row what a person has to look at."""
    log.error("payout_alarm", line=str(line.id), text=text)
    line.reason = text[:500]


def _sent(line: PayoutLine, fact: TransferFact) -> None:
    """The money left our balance. A line that we had given up takes it out of due once more."""
    clearing, cash = account(AccountKind.PROVIDER_CLEARING), account(AccountKind.STRIPE_CASH)
    if line.state != LineState.CLEARING:
        due = account(AccountKind.PROVIDER_DUE, line.provider_ref)
        _post(line, _Kind.PAYOUT, ((due, -line.amount_micro), (clearing, line.amount_micro)))
    _post(line, _Kind.PAYOUT_SENT, ((clearing, -line.amount_micro), (cash, line.amount_micro)))
    line.state, line.reason, line.returned_micro = LineState.SENT, "", 0
    line.stripe_id, line.destination = fact.stripe_id, fact.destination
    line.sent_at = now()
    _reversed(line, fact)


def _reversed(line: PayoutLine, fact: TransferFact) -> None:
    more = from_minor(fact.reversed_minor) - line.returned_micro
    if more <= 0:
        return
    _back(line, AccountKind.STRIPE_CASH, more)
    if line.returned_micro == line.amount_micro:
        line.state = LineState.RETURNED
    line.reason = line.reason or "Taken back at Stripe."


def _back(line: PayoutLine, source: AccountKind, amount: int) -> None:
    due = account(AccountKind.PROVIDER_DUE, line.provider_ref)
    _post(line, _Kind.PAYOUT_RETURNED, ((account(source), -amount), (due, amount)))
    line.returned_micro += amount


def _paid_on(line: PayoutLine, fact: BankFact) -> None:
    if line.state not in (LineState.SENT, LineState.PAID, LineState.FAILED):
        return
    line.expected_at = fact.arrives_at
    if fact.status == "paid":
        line.state, line.reason = LineState.PAID, ""
        line.paid_at = line.paid_at or now()
    elif fact.status in ("failed", "canceled") and line.state != LineState.FAILED:
        # Banks refuse up to days after they took it, so paid is not the last word.
        line.state, line.paid_at = LineState.FAILED, None
        line.reason = (fact.failure or f"Stripe's payout is {fact.status}.")[:500]
        log.error("payout_failed", line=str(line.id), reason=line.reason)
        key = f"payout:{line.id}:reverse"
        intend(CallKind.TRANSFER_REVERSAL, key=key, subject=line.id)


def _post(line: PayoutLine, kind: TransactionKind, legs: tuple[tuple[UUID, int], ...]) -> None:
    """The how-manieth of its kind for this line is its round: the database refuses one twice."""
    before = Transaction.objects.filter(
        kind=kind, cause_type=CauseType.PAYOUT, cause_id=line.id
    ).count()
    post([Entry(kind, CauseType.PAYOUT, line.id, legs, round=before + 1)])
