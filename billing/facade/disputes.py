"""Billing's door for disputes: which are open, what was decided, and the evidence for them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from billing.contracts.disputes import DisputeView, EvidenceView
from billing.payments import dispute as _dispute
from billing.payments import evidence as _evidence


def disputes(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[DisputeView]:
    """Newest first, of one organization or of all; ``after``: the last id before."""
    return _dispute.disputes(org_ref=org_ref, after=after, limit=limit)


def dispute(*, dispute_id: UUID) -> DisputeView:
    """One; NotFound."""
    return _evidence.dispute(dispute_id=dispute_id)


def open_orgs() -> set[UUID]:
    """Organizations with a dispute that is not decided."""
    return _dispute.open_orgs()


def lost_since(*, org_ref: UUID, at: datetime) -> bool:
    """Whether a dispute of the organization was lost since then."""
    return _dispute.lost_since(org_ref=org_ref, at=at)


def evidence(*, dispute_id: UUID) -> EvidenceView:
    """What the ledger says for us, or what was submitted; NotFound."""
    return _evidence.compose(dispute_id=dispute_id)


def submit_evidence(
    *, dispute_id: UUID, submitted_by: str, access_activity_log: str, uncategorized_text: str
) -> DisputeView:
    """In a transaction: order the submission, which Stripe takes once.

    Refusal invalid_transition when none is asked for or it was submitted already.
    """
    return _evidence.submit(
        dispute_id=dispute_id,
        submitted_by=submitted_by,
        access_activity_log=access_activity_log,
        uncategorized_text=uncategorized_text,
    )
