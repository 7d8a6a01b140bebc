"""Make our refunds agree with Stripe's; saying it twice, late or shuffled is harmless.

Failed and canceled are final; a refund that succeeded can still fail weeks later, and then the
money is back. One that was made by hand at Stripe is booked like ours, once, and told to people.
The tenant is locked first, then the refund: whoever orders one takes them in the same order.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction

from billing.contracts import PaymentState
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, post
from billing.ledger.reverse import posted, reversed_legs
from billing.models import AccountKind, CauseType, Payment, Refund, TransactionKind
from billing.payments import topup_tax
from billing.payments.return_facts import RefundFact
from kernel.errors import TemporaryError
from kernel.money import from_minor

log = structlog.get_logger(__name__)
_UNDONE = frozenset({PaymentState.FAILED, PaymentState.CANCELED})


def refund_seen(refund_id: UUID, fact: RefundFact) -> bool:
    """One of ours as Stripe has it now; False when there is none of that id here."""
    with transaction.atomic():
        row = _locked(refund_id)
        if row is None:
            return False
        if (fact.amount_minor, fact.currency) != (row.amount_minor, row.payment.currency):
            log.error("refund_amount_differs", refund=str(row.id), there=fact.amount_minor)
        _move(row, fact)
    return True


def refund_refused(refund_id: UUID, failure: str) -> None:
    """Stripe refused to make it: the money is back in the balance."""
    with transaction.atomic():
        row = _locked(refund_id)
        if row is not None and row.state == PaymentState.PENDING and row.stripe_id is None:
            _undo(row, PaymentState.FAILED, failure)
            row.save()


def refund_by_hand(fact: RefundFact) -> bool:
    """A refund without our name on it; False when its payment is not booked here.

    It takes what the tenant has above its floor; the rest is bad debt. TemporaryError while a
    refund of ours, which Stripe will refuse now, still counts on the same money.
    """
    with transaction.atomic():
        payment = Payment.objects.filter(stripe_id=fact.payment, txn__isnull=False).first()
        if payment is None:
            return False
        purse = lock_purse(payment.org_ref)
        row = Refund.objects.select_for_update().filter(stripe_id=fact.stripe_id).first()
        if row is None:
            row = _book_by_hand(payment, purse, fact)
        _move(row, fact)
    return True


def _book_by_hand(payment: Payment, purse: Purse, fact: RefundFact) -> Refund:
    payment.refresh_from_db(fields=["refunded_minor"])
    undone = fact.state in _UNDONE
    if not undone and fact.amount_minor > payment.amount_minor - payment.refunded_minor:
        raise TemporaryError("a refund of ours on the same payment is not decided yet", delay=10)
    tax_minor = 0 if undone else topup_tax.tax_within(payment, fact.amount_minor)
    row = Refund.objects.create(
        payment=payment,
        stripe_id=fact.stripe_id,
        amount_minor=fact.amount_minor,
        tax_minor=tax_minor,
        state=fact.state if undone else PaymentState.PENDING,
    )
    log.error("refund_by_hand", refund=fact.stripe_id, payment=fact.payment, state=fact.state.value)
    if undone:
        return row
    tax = from_minor(tax_minor)
    amount = from_minor(fact.amount_minor) - tax
    paid = min(amount, max(0, purse.available_micro))
    legs = (
        (account(AccountKind.STRIPE_CASH), amount + tax),
        (account(AccountKind.TAX_PAYABLE), -tax),
        (purse.tenant, -paid),
        (account(AccountKind.BAD_DEBT), paid - amount),
    )
    entry = Entry(TransactionKind.REFUND, CauseType.REFUND, row.id, legs, linked=payment.txn_id)
    post([entry])
    topup_tax.refund_ordered(row)
    return row


def _locked(refund_id: UUID) -> Refund | None:
    found = Refund.objects.select_related("payment").filter(id=refund_id).first()
    if found is None:
        return None
    lock_purse(found.payment.org_ref)
    rows = Refund.objects.select_for_update(of=("self",)).select_related("payment")
    return rows.get(id=refund_id)


def _move(row: Refund, fact: RefundFact) -> None:
    if row.state in _UNDONE:
        return
    row.stripe_id = row.stripe_id or fact.stripe_id
    row.at_stripe = row.at_stripe or fact.moved
    if fact.state in _UNDONE:
        _undo(row, fact.state, fact.failure)
    elif row.state != PaymentState.SUCCEEDED:
        row.state = fact.state
    row.save()


def _undo(row: Refund, state: PaymentState, failure: str) -> None:
    """The money is back at Stripe and with the tenant, each leg as it was taken."""
    txn = posted(TransactionKind.REFUND, CauseType.REFUND, row.id)
    assert txn is not None, "a refund is booked before Stripe can fail it"
    legs = reversed_legs(txn)
    post([Entry(TransactionKind.REFUND_RETURNED, CauseType.REFUND, row.id, legs, linked=txn)])
    row.state, row.failure = state, failure[:500]
