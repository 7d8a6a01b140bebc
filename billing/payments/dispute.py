"""Disputes: the bank takes a payment back until it is decided; each step is booked once.

What moved at Stripe is booked from the dispute's balance transactions, so an inquiry books nothing.
The provider keeps what it earned: the compute was delivered. Lost: the tenant pays down to its
floor, the rest is bad debt. Stripe may still turn a lost one: then what was taken is given back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction

from billing.contracts.disputes import (
    ANSWERABLE,
    CLOSED,
    INQUIRY,
    DisputeState,
    DisputeView,
)
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, Leg, post
from billing.ledger.reverse import posted, reversed_legs
from billing.models import (
    AccountKind,
    CauseType,
    Dispute,
    Payment,
    Transaction,
    TransactionKind,
)
from billing.models.ordered import newest
from billing.payments.return_facts import DisputeFact
from kernel.clock import now
from kernel.errors import Refusal
from kernel.money import CURRENCY, from_minor

log = structlog.get_logger(__name__)
# Fewer days left than this without evidence wakes staff.
SOON = timedelta(days=3)


def dispute_seen(fact: DisputeFact) -> bool:
    """A dispute as Stripe has it now; False when its payment is not booked here."""
    with transaction.atomic():
        payment = Payment.objects.filter(stripe_id=fact.payment, txn__isnull=False).first()
        if payment is None:
            return False
        purse = lock_purse(payment.org_ref)
        row = Dispute.objects.select_for_update().filter(stripe_id=fact.stripe_id).first()
        if row is None:
            row = Dispute(org_ref=payment.org_ref, payment=payment, stripe_id=fact.stripe_id)
            log.error("dispute_opened", dispute=fact.stripe_id, reason=fact.reason)
        _agree(row, fact)
        row.save()
        _book(row, payment, purse, fact)
    return True


def _agree(row: Dispute, fact: DisputeFact) -> None:
    row.reason, row.amount_minor = fact.reason[:100], fact.amount_minor
    row.due_by = fact.due_by or row.due_by
    if fact.submitted:
        row.submitted_at = row.submitted_at or now()
    # Closed stays closed; only a lost dispute may still be won.
    if row.state in CLOSED and not (row.state == DisputeState.LOST and fact.state in CLOSED):
        return
    if row.state in INQUIRY and fact.state == DisputeState.NEEDS_RESPONSE:
        # The bank made a chargeback of its inquiry: it asks for evidence anew.
        row.evidence, row.evidence_at, row.submitted_at = None, None, None
        row.evidence_try += 1
    row.state = fact.state
    row.closed_at = (row.closed_at or now()) if fact.state in CLOSED else None


def _book(row: Dispute, payment: Payment, purse: Purse, fact: DisputeFact) -> None:
    """Every step that Stripe has taken and we have not; the tenant is locked."""
    cash, fees = account(AccountKind.STRIPE_CASH), account(AccountKind.STRIPE_FEES)
    suspense = account(AccountKind.DISPUTE_SUSPENSE)
    taken, fee = from_minor(fact.withdrawn_minor), from_minor(fact.fee_minor)
    back, fee_back = from_minor(fact.reinstated_minor), from_minor(fact.fee_back_minor)
    link = payment.txn_id
    if taken:
        _once(row, TransactionKind.DISPUTE, ((cash, taken), (suspense, -taken)), link)
    if fee:
        _once(row, TransactionKind.DISPUTE_FEE, ((fees, -fee), (cash, fee)), link)
    if fee_back:
        legs = ((fees, fee_back), (cash, -fee_back))
        _once(row, TransactionKind.DISPUTE_FEE, legs, link, round=2)
    if not taken:
        return
    if back:
        _once(row, TransactionKind.DISPUTE_WON, _won(row, cash, suspense, back), link)
    elif row.state == DisputeState.LOST:
        paid = min(taken, max(0, purse.available_micro))
        bad = account(AccountKind.BAD_DEBT)
        legs_lost = ((suspense, taken), (purse.tenant, -paid), (bad, paid - taken))
        _once(row, TransactionKind.DISPUTE_LOST, legs_lost, link)


def _won(row: Dispute, cash: UUID, suspense: UUID, back: int) -> tuple[Leg, ...]:
    lost = posted(TransactionKind.DISPUTE_LOST, CauseType.DISPUTE, row.id)
    if lost is None:
        return ((cash, -back), (suspense, back))
    borne = tuple(leg for leg in reversed_legs(lost) if leg[0] != suspense)
    return ((cash, -sum(amount for _, amount in borne)), *borne)


def _once(
    row: Dispute,
    kind: TransactionKind,
    legs: tuple[Leg, ...],
    linked: UUID | None,
    *,
    round: int = 1,
) -> None:
    if not Transaction.objects.filter(
        kind=kind, cause_type=CauseType.DISPUTE, cause_id=row.id, round=round
    ).exists():
        post([Entry(kind, CauseType.DISPUTE, row.id, legs, linked=linked, round=round)])


def refuse_while_disputed(org_ref: UUID) -> None:
    """Refusal account_frozen: no more money by card while a payment by card is contested."""
    if Dispute.objects.filter(org_ref=org_ref, closed_at__isnull=True).exists():
        raise Refusal(
            "account_frozen",
            "A payment of this organization is contested at its bank. No card is charged until "
            "that is decided. Write to support.",
        )


def open_orgs() -> set[UUID]:
    """Organizations with a dispute that is not decided."""
    return set(Dispute.objects.filter(closed_at__isnull=True).values_list("org_ref", flat=True))


def lost_since(*, org_ref: UUID, at: datetime) -> bool:
    """Whether a dispute of the organization was lost since then."""
    return Dispute.objects.filter(
        org_ref=org_ref, state=DisputeState.LOST, closed_at__gte=at
    ).exists()


def unanswered() -> int:
    """Disputes with less than three days left for evidence, and none submitted."""
    return Dispute.objects.filter(
        state__in=sorted(ANSWERABLE), submitted_at__isnull=True, due_by__lt=now() + SOON
    ).count()


def disputes(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[DisputeView]:
    """Newest first; of one organization or of all."""
    rows = Dispute.objects.select_related("payment")
    return [view(row) for row in newest(rows, org_ref=org_ref, after=after, limit=limit)]


def view(row: Dispute) -> DisputeView:
    """One as it crosses the door."""
    return DisputeView(
        id=row.id,
        org_ref=row.org_ref,
        stripe_id=row.stripe_id,
        payment=row.payment.stripe_id,
        state=DisputeState(row.state),
        reason=row.reason,
        amount_micro=from_minor(row.amount_minor),
        currency=CURRENCY,
        due_by=row.due_by,
        ordered_at=row.evidence_at,
        submitted_at=row.submitted_at,
        failure=row.failure,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )
