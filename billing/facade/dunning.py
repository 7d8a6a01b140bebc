"""Billing's door to invoices that are not paid in time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from billing.contracts import InvoiceView
from billing.contracts.dunning import OverdueView, WriteOffView
from billing.invoicing import bad_debt as _bad_debt


def overdue(*, org_ref: UUID | None = None) -> list[OverdueView]:
    """Unpaid invoices past their date, written-off ones included, oldest first."""
    return _bad_debt.overdue(org_ref=org_ref)


def unpaid(*, after: timedelta) -> list[OverdueView]:
    """Open invoices that were issued so long ago and are not past their date, oldest first."""
    return _bad_debt.unpaid(after=after)


def write_offs(*, limit: int) -> list[WriteOffView]:
    """Invoices that were booked as a loss, newest first, with what came of them afterwards."""
    return _bad_debt.write_offs(limit=limit)


def write_off(*, invoice_id: UUID) -> InvoiceView:
    """In a transaction: give up an open invoice, here and at Stripe. A late payment is booked back.

    NotFound; Refusal("invalid_transition") for one that is not open.
    """
    return _bad_debt.write_off(invoice_id=invoice_id)
