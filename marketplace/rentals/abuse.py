"""Reports of owners that their cards are abused, and what staff decide about them.

A report is an owner's word. It stops what its owner stops, and keeps that from being started again
until staff have looked; it ends nothing, freezes nobody and costs nobody anything by itself.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from kernel.text import clean, rfc3339
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal, find, visible
from marketplace.models import AbuseReport, Rental
from marketplace.providers import onboard
from marketplace.rentals.stop import illegal

State = AbuseReport.State


def store(
    acting: Principal, text: str, *, rental: Rental | None, cluster_ref: UUID, stopped: bool
) -> AbuseReport:
    """A report of the acting owner, for staff. ``stopped``: what it names was stopped at once."""
    row = AbuseReport.objects.create(
        provider=onboard.own_provider(acting),
        rental=rental,
        cluster_ref=cluster_ref,
        text=clean(text, limit=2000),
        stopped=stopped,
    )
    onboard.record(acting, "abuse.report", row.public_id)
    return row


def reports(acting: Principal, *, state: str | None = None) -> QuerySet[AbuseReport]:
    """Every owner's, for staff; of one state where given."""
    acting.require(STAFF)
    rows = AbuseReport.objects.select_related("rental__organization", "provider__organization")
    return rows if state is None else rows.filter(state=state)


def own(acting: Principal) -> QuerySet[AbuseReport]:
    """The acting owner's."""
    return visible(AbuseReport, acting)


def decide(*, acting: Principal, report_id: str, upheld: bool, note: str) -> AbuseReport:
    """Uphold a report, so that what was stopped stays so, or dismiss it; joins the caller's
    transaction. Raises NotFound, InvalidRequest (note), invalid_transition."""
    acting.require(STAFF)
    said = clean(note, limit=500)
    if not said:
        raise InvalidRequest({"note": ["say why: the owner reads it"]})
    row = find(AbuseReport.objects.select_for_update(of=("self",)), report_id)
    if row.state != State.OPEN:
        raise Refusal(
            "invalid_transition",
            f"The report is {row.state} already. Nothing was changed.",
            state=row.state,
            actions=[],
        )
    row.state = State.UPHELD if upheld else State.DISMISSED
    row.decided_at, row.decided_by, row.note = now(), acting.staff_actor, said
    row.version += 1
    row.save()
    audit.record(
        acting=acting,
        action=f"abuse.{row.state}",
        object=row.public_id,
        organization_ref=row.rental.organization_id if row.rental else None,
        details={"note": said},
    )
    return row


def check(rental: Rental) -> None:
    """Raise invalid_transition for one that was stopped for abuse and is not cleared of it."""
    rows = AbuseReport.objects.filter(~Q(state=State.DISMISSED), rental=rental, stopped=True)
    if rental.reason == "abuse" and rows.exists():
        raise illegal(
            rental,
            "the owner of its cards stopped it for abuse, and staff have not cleared it: write to "
            "support if this is wrong",
        )


def describe(row: AbuseReport, *, staff: bool = False) -> dict[str, Any]:
    """A report as its owner sees it; staff see who made it and whom it names as well."""
    shown: dict[str, Any] = {
        "id": row.public_id,
        "rental": public("rental", row.rental_id) if row.rental_id else None,
        "cluster": public("cluster", row.cluster_ref) if row.cluster_ref else None,
        "text": row.text,
        "stopped": row.stopped,
        "state": row.state,
        "note": row.note or None,
        "decided_at": rfc3339(row.decided_at),
        "created_at": rfc3339(row.created_at),
        "version": row.version,
    }
    if staff:
        renter = row.rental.organization if row.rental else None
        shown |= {
            "provider": row.provider.public_id,
            "provider_name": row.provider.organization.name,
            "organization": renter.public_id if renter else None,
            "organization_name": renter.name if renter else None,
            "actions": ["uphold", "dismiss"] if row.state == State.OPEN else [],
        }
    return shown
