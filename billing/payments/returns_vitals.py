"""What of disputes, refunds and credit notes waits for a person, as figures."""

from __future__ import annotations

from datetime import timedelta

from billing.contracts import PaymentState
from billing.models import CreditNote, Refund
from billing.payments.dispute import unanswered
from kernel.clock import now
from kernel.vitals import COUNT, Vital

# A refund by hand is booked by itself; somebody should know of it for a while.
_TOLD = timedelta(days=3)


def returns_vitals() -> list[Vital]:
    """Two counts, in a fixed order."""
    by_hand = Refund.objects.filter(order__isnull=True, created_at__gt=now() - _TOLD).count()
    differing = CreditNote.objects.filter(state=PaymentState.PENDING).exclude(failure="").count()
    return [
        Vital(
            "disputes_unanswered",
            unanswered(),
            "Disputes without evidence and with less than three days for it",
            COUNT,
        ),
        Vital(
            "returns_to_check",
            by_hand + differing,
            "Refunds made by hand at Stripe in three days, credit notes that differ there",
            COUNT,
        ),
    ]
