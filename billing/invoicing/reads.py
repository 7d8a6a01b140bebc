"""Invoices as the organization sees them."""

from __future__ import annotations

from uuid import UUID

from billing.contracts import InvoiceLineView, InvoiceState, InvoiceView
from billing.models import Invoice
from kernel.errors import NotFound


def invoices(*, org_ref: UUID) -> list[InvoiceView]:
    """All of the organization's, newest first."""
    rows = Invoice.objects.filter(org_ref=org_ref).order_by("-id").prefetch_related("lines")
    return [view(row) for row in rows]


def invoice(*, org_ref: UUID, invoice_id: UUID) -> InvoiceView:
    """One; NotFound for another organization's."""
    row = Invoice.objects.filter(org_ref=org_ref, id=invoice_id).prefetch_related("lines").first()
    if row is None:
        raise NotFound("invoice")
    return view(row)


def view(row: Invoice) -> InvoiceView:
    """An invoice with its lines in order."""
    lines = sorted(row.lines.all(), key=lambda line: line.position)
    return InvoiceView(
        id=row.id,
        org_ref=row.org_ref,
        number=row.number,
        state=InvoiceState(row.state),
        currency=row.currency,
        period_from=row.period_from,
        period_to=row.period_to,
        total_minor=row.total_minor,
        carried_micro=row.carried_micro,
        lines=tuple(
            InvoiceLineView(
                text=line.text,
                quantity=line.quantity,
                amount_micro=line.amount_micro,
                tax_micro=line.tax_micro,
            )
            for line in lines
        ),
        hosted_url=row.hosted_url,
        created_at=row.created_at,
        paid_at=row.paid_at,
        tax_micro=row.tax_micro,
    )
