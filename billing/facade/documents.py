"""Billing's door to what documents are written from."""

from __future__ import annotations

from uuid import UUID

from billing.contracts.documents import InvoiceDocument
from billing.invoicing import document as _document


def invoice_document(*, org_ref: UUID, invoice_id: UUID) -> InvoiceDocument:
    """An invoice as its document says it; NotFound for another organization's."""
    return _document.invoice_document(org_ref=org_ref, invoice_id=invoice_id)
