"""Evidence for a dispute, composed from the ledger: what was bought, used and when.

Stripe takes evidence once. What is submitted is stored before it is sent and never changes; only a
refusal by Stripe lets staff try again.
"""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

from django.db.models import Max, Min, QuerySet, Sum

from billing.contracts.disputes import ANSWERABLE, DisputeView, EvidenceView
from billing.models import CallKind, Customer, Dispute, UsageLine
from billing.payments.dispute import view
from billing.payments.intents import intend
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.money import CURRENCY, format_micro, from_minor

# Stripe takes 150,000 letters over all fields; a bank's clerk reads far fewer.
LONGEST = 20_000
_LINES = 200


def dispute(*, dispute_id: UUID) -> DisputeView:
    """One dispute; NotFound."""
    return view(_find(dispute_id))


def compose(*, dispute_id: UUID) -> EvidenceView:
    """The texts as the ledger gives them now, or those that were submitted. NotFound."""
    row = _find(dispute_id)
    if row.evidence is not None:
        return EvidenceView(**row.evidence)
    customer = Customer.objects.get(org_ref=row.org_ref)
    since = row.payment.created_at
    lines = UsageLine.objects.filter(meter__org_ref=row.org_ref, to_at__gt=since)
    return EvidenceView(
        customer_name=customer.name,
        customer_email_address=customer.email,
        product_description=(
            "Rental of GPU servers over the internet, paid in advance and charged by the second "
            "of proven use. Each customer has access of its own to the rented servers."
        ),
        access_activity_log=_access(lines),
        uncategorized_text=_summary(row, customer, lines),
    )


def submit(
    *, dispute_id: UUID, submitted_by: str, access_activity_log: str, uncategorized_text: str
) -> DisputeView:
    """Store the evidence, with these two texts, and order its submission; once.

    Refusal invalid_transition: none is asked for, or it was submitted.
    """
    composed = asdict(compose(dispute_id=dispute_id))
    row = _find(dispute_id, lock=True)
    if row.state not in ANSWERABLE or row.evidence_at is not None:
        raise Refusal(
            "invalid_transition",
            "No evidence is asked for, or it was submitted already. Nothing was sent.",
            state=row.state,
            actions=[],
        )
    texts = {"access_activity_log": access_activity_log, "uncategorized_text": uncategorized_text}
    wrong = {
        name: [f"1 to {LONGEST} letters"]
        for name, text in texts.items()
        if not 0 < len(text.strip()) <= LONGEST
    }
    if wrong:
        raise InvalidRequest(wrong)
    row.evidence = composed | texts
    row.evidence_by, row.evidence_at, row.failure = submitted_by[:100], now(), ""
    row.save()
    key = f"evidence:{row.id}:{row.evidence_try}"
    intend(CallKind.DISPUTE_EVIDENCE, key=key, subject=row.id, org_ref=row.org_ref)
    return view(row)


def evidence_submitted(dispute_id: UUID) -> None:
    """Stripe has it."""
    Dispute.objects.filter(id=dispute_id, submitted_at__isnull=True).update(submitted_at=now())


def evidence_refused(dispute_id: UUID, failure: str) -> None:
    """Stripe did not take it: staff may change it and submit again."""
    row = _find(dispute_id, lock=True)
    row.evidence, row.evidence_at = None, None
    row.evidence_try += 1
    row.failure = failure[:500]
    row.save()


def _find(dispute_id: UUID, *, lock: bool = False) -> Dispute:
    rows = Dispute.objects.select_related("payment")
    rows = rows.select_for_update(of=("self",)) if lock else rows
    row = rows.filter(id=dispute_id).first()
    if row is None:
        raise NotFound("dispute")
    return row


def _summary(row: Dispute, customer: Customer, lines: QuerySet[UsageLine]) -> str:
    paid = format_micro(from_minor(row.payment.amount_minor), places=2)
    head = (
        f"{customer.name} paid {paid} {CURRENCY} on {row.payment.created_at:%Y-%m-%d %H:%M} UTC "
        f"(payment {row.payment.stripe_id}). Use since then, from our ledger:"
    )
    rentals = (
        lines.values("meter", "meter__description")
        .annotate(
            seconds=Sum("seconds"),
            amount=Sum("amount_micro"),
            first=Min("from_at"),
            last=Max("to_at"),
        )
        .order_by("first")
    )
    told = [
        f"- {one['meter__description']}: {one['seconds']} s of proven use from "
        f"{one['first']:%Y-%m-%d %H:%M:%S} to {one['last']:%Y-%m-%d %H:%M:%S} UTC, "
        f"{format_micro(one['amount'])} {CURRENCY}"
        for one in rentals
    ]
    seconds = sum(one["seconds"] for one in rentals)
    amount = format_micro(sum(one["amount"] for one in rentals))
    total = f"In all {seconds} s for {amount} {CURRENCY}."
    return "\n".join([head, *(told or ["- none"]), total])[:LONGEST]


def _access(lines: QuerySet[UsageLine]) -> str:
    newest = lines.select_related("meter").order_by("-from_at")[:_LINES]
    told = [
        f"{line.from_at:%Y-%m-%d %H:%M:%S} to {line.to_at:%H:%M:%S} UTC: {line.seconds} s on "
        f"{line.meter.description}, rental {line.meter_id}"
        for line in newest
    ]
    return "\n".join(told or ["No use since the payment."])[:LONGEST]
