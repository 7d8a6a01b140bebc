"""Invoices that nobody paid, for staff: what is overdue, what was written off, by whom and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from billing.contracts import InvoiceView
from billing.contracts.dunning import OverdueView, WriteOffView
from billing.facade import dunning
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal
from marketplace.models import AuditEntry, Organization

ACTION = "invoice.write_off"
_SHOWN = 100


@dataclass(frozen=True)
class Loss:
    """A write-off with what the audit trail says of it. actor: ``platform`` after sixty days;
    empty, like the reason, where it was marked uncollectible at Stripe."""

    view: WriteOffView
    organization: str
    actor: str
    reason: str


@dataclass(frozen=True)
class Overdue:
    """An unpaid invoice past its date, which may be written off."""

    view: OverdueView
    organization: str


def write_off(*, acting: Principal, invoice_id: str, reason: str) -> InvoiceView:
    """Book an open invoice as a loss, and say so at Stripe; joins the caller's transaction.
    NotFound, Refusal invalid_transition."""
    acting.require(STAFF)
    try:
        identifier = parse("invoice", invoice_id)
    except BadId as error:
        raise NotFound("invoice") from error
    view = dunning.write_off(invoice_id=identifier)
    audit.record(
        acting=acting,
        action=ACTION,
        object=public("invoice", view.id),
        organization_ref=view.org_ref,
        details={"reason": reason},
    )
    return view


def losses(acting: Principal) -> list[Loss]:
    """What was written off, newest first."""
    acting.require(STAFF)
    views = dunning.write_offs(limit=_SHOWN)
    names = _names(view.org_ref for view in views)
    said = {
        entry.object: entry
        for entry in AuditEntry.objects.filter(
            action=ACTION, object__in=[public("invoice", view.invoice_id) for view in views]
        )
    }
    return [
        Loss(
            view,
            names.get(view.org_ref, ""),
            entry.actor if entry else "",
            str(entry.details.get("reason", "")) if entry else "",
        )
        for view in views
        for entry in [said.get(public("invoice", view.invoice_id))]
    ]


def overdue(acting: Principal) -> list[Overdue]:
    """What may be written off, oldest first."""
    acting.require(STAFF)
    views = [view for view in dunning.overdue() if not view.written_off]
    names = _names(view.org_ref for view in views)
    return [Overdue(view, names.get(view.org_ref, "")) for view in views]


def _names(org_refs: Iterable[UUID]) -> dict[UUID, str]:
    rows = Organization.objects.filter(id__in=set(org_refs))
    return dict(rows.values_list("id", "name"))
