"""What stands on an invoice's document: fixed lines, whose cards they are, and where cents went."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from django.db import connection

from billing.contracts import InvoiceState
from billing.contracts.documents import DocumentLine, InvoiceDocument, SellerShare
from billing.models import Invoice
from billing.payments.tax import ids_of
from billing.payments.tenants import find_customer
from kernel.errors import NotFound

_SELLERS = """
SELECT s.line_id, m.provider_ref, sum(u.amount_micro - u.overrun_micro)::bigint
  FROM billing_invoiceline n
  JOIN billing_invoicespan s ON s.line_id = n.id
  JOIN billing_rentalmeter m ON m.rental_ref = s.rental_ref
  JOIN billing_usageline u
    ON u.rental_ref = s.rental_ref AND u.seq BETWEEN s.first_seq AND s.last_seq
 WHERE n.invoice_id = %s
 GROUP BY s.line_id, m.provider_ref
 ORDER BY s.line_id, m.provider_ref
"""


def invoice_document(*, org_ref: UUID, invoice_id: UUID) -> InvoiceDocument:
    """The invoice of the organization, with the provider behind each part of each line."""
    row = Invoice.objects.filter(org_ref=org_ref, id=invoice_id).first()
    if row is None:
        raise NotFound("invoice")
    customer, sellers = find_customer(org_ref), _sellers(row.id)
    return InvoiceDocument(
        id=row.id,
        buyer=customer.name,
        buyer_email=customer.email,
        number=row.number,
        state=InvoiceState(row.state),
        currency=row.currency,
        period_from=row.period_from,
        period_to=row.period_to,
        issued_at=row.finalized_at,
        paid_at=row.paid_at,
        lines=tuple(
            DocumentLine(
                text=line.text,
                quantity=line.quantity,
                amount_micro=line.amount_micro,
                amount_minor=line.amount_minor,
                sellers=tuple(sellers[line.id]),
                tax_ppm=line.tax_ppm,
                tax_micro=line.tax_micro,
                tax_minor=line.tax_minor,
            )
            for line in row.lines.order_by("position")
        ),
        carried_in_micro=row.carried_in_micro,
        carried_micro=row.carried_micro,
        tax_micro=row.tax_micro,
        total_minor=row.total_minor,
        tax_reason=row.tax_reason,
        buyer_tax_ids=ids_of(row.tax_profile) if row.tax_profile else (),
    )


def _sellers(invoice_id: UUID) -> dict[UUID, list[SellerShare]]:
    found: dict[UUID, list[SellerShare]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_SELLERS, [invoice_id])
        for line_id, provider_ref, amount in cursor.fetchall():
            found[line_id].append(SellerShare(provider_ref, amount))
    return found
