"""An invoice at Stripe, step by step: draft, lines, verified and finalized, paid."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import stripe

from billing.invoicing import converge
from billing.models import CallKind, Invoice, InvoiceLine, StripeCall
from billing.payments.cards import default_method
from billing.stripe_gateway import read
from billing.stripe_gateway.client import call
from billing.stripe_gateway.errors import Stuck
from billing.stripe_gateway.steps import Step, adopt, customer_id, options, since
from kernel.errors import PermanentError


class CreateInvoice(Step):
    kind = CallKind.INVOICE_CREATE

    def send(self, intent: StripeCall, key: str) -> stripe.Invoice:
        invoice = Invoice.objects.get(id=intent.subject)
        params: Any = {
            "customer": customer_id(intent),
            "currency": invoice.currency.lower(),
            "auto_advance": False,
            "collection_method": "charge_automatically",
            "pending_invoice_items_behavior": "exclude",
            "description": f"GPU rentals until {invoice.period_to:%Y-%m-%d %H:%M} UTC",
            "metadata": {read.INVOICE: intent.subject},
        }
        return call(lambda client: client.v1.invoices.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.Invoice | None:
        params: Any = {
            "customer": customer_id(intent),
            "created": since(intent),
            "limit": 100,
        }
        return call(
            lambda client: adopt(
                client.v1.invoices.list(params).auto_paging_iter(), read.INVOICE, intent.subject
            )
        )

    def apply(self, intent: StripeCall, found: stripe.Invoice) -> None:
        converge.created(UUID(intent.subject), found.id)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.alarm(UUID(intent.subject), f"Stripe refused the invoice: {error}")


class WriteLine(Step):
    kind = CallKind.INVOICE_LINE

    def send(self, intent: StripeCall, key: str) -> stripe.InvoiceItem:
        line = InvoiceLine.objects.select_related("invoice").get(id=intent.subject)
        params: Any = {
            "customer": customer_id(intent),
            "invoice": line.invoice.stripe_id,
            "amount": line.amount_minor,
            "currency": line.invoice.currency.lower(),
            "description": line.text,
            "period": {
                "start": int(line.invoice.period_from.timestamp()),
                "end": int(line.invoice.period_to.timestamp()),
            },
            "metadata": {read.LINE: intent.subject},
        }
        return call(lambda client: client.v1.invoice_items.create(params, options(key)))

    def look(self, intent: StripeCall) -> stripe.InvoiceItem | None:
        line = InvoiceLine.objects.select_related("invoice").get(id=intent.subject)
        params: Any = {"invoice": line.invoice.stripe_id, "limit": 100}
        return call(
            lambda client: adopt(
                client.v1.invoice_items.list(params).auto_paging_iter(), read.LINE, intent.subject
            )
        )

    def apply(self, intent: StripeCall, found: stripe.InvoiceItem) -> None:
        converge.line_written(UUID(intent.subject), found.id)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        line = InvoiceLine.objects.get(id=intent.subject)
        converge.alarm(line.invoice_id, f"Stripe refused line {line.position}: {error}")


class TaxLines(Step):
    """The ledger's tax on each line, as amounts: Stripe works out none, so the totals agree."""

    kind = CallKind.INVOICE_TAX

    def send(self, intent: StripeCall, key: str) -> stripe.Invoice:
        invoice = Invoice.objects.get(id=intent.subject)
        assert invoice.stripe_id is not None
        name = invoice.stripe_id
        there = call(
            lambda client: list(
                client.v1.invoices.line_items.list(name, {"limit": 100}).auto_paging_iter()
            )
        )
        ids = {_item_of(line): line.id for line in there}
        params: Any = {
            "lines": [
                {"id": ids[line.stripe_id], "tax_amounts": [_tax_amount(invoice, line)]}
                for line in invoice.lines.order_by("position")
            ]
        }
        return call(lambda client: client.v1.invoices.update_lines(name, params, options(key)))

    def look(self, intent: StripeCall) -> None:
        """Setting the same amounts again changes nothing."""

    def apply(self, intent: StripeCall, found: stripe.Invoice) -> None:
        converge.taxed(UUID(intent.subject))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.alarm(UUID(intent.subject), f"Stripe refused the tax on its lines: {error}")


def _item_of(line: stripe.InvoiceLineItem) -> str | None:
    parent = line.parent
    details = parent.invoice_item_details if parent else None
    return details.invoice_item if details else None


def _tax_amount(invoice: Invoice, line: InvoiceLine) -> dict[str, Any]:
    # 190000 parts per million are 19 percent: four places at most, as Stripe takes.
    rate: dict[str, Any] = {
        "display_name": "Tax",
        "inclusive": False,
        "percentage": Decimal(line.tax_ppm).scaleb(-4),
    }
    if invoice.tax_profile is not None:
        rate["country"] = invoice.tax_profile.country
    amount: dict[str, Any] = {
        "amount": line.tax_minor,
        "taxable_amount": line.amount_minor,
        "tax_rate_data": rate,
    }
    if invoice.tax_reason:
        amount["taxability_reason"] = invoice.tax_reason
    return amount


class _OnInvoice(Step):
    """A step that changes an invoice: what it did is seen by fetching the invoice."""

    def fetch(self, intent: StripeCall) -> tuple[Invoice, stripe.Invoice]:
        invoice = Invoice.objects.get(id=intent.subject)
        assert invoice.stripe_id is not None
        return invoice, read.invoice(invoice.stripe_id)

    def apply(self, intent: StripeCall, found: Any) -> None:
        converge.invoice_seen(UUID(intent.subject), found)


class FinalizeInvoice(_OnInvoice):
    kind = CallKind.INVOICE_FINALIZE

    def send(self, intent: StripeCall, key: str) -> Any:
        """The finalized invoice as fact; Stuck, and left a draft, when totals differ."""
        invoice, there = self.fetch(intent)
        if there.status == "draft":
            if there.total != invoice.total_minor:
                text = f"Stripe's draft is {there.total} cents, the ledger's {invoice.total_minor}."
                converge.alarm(invoice.id, text)
                raise Stuck(text)
            params: Any = {"auto_advance": False}
            there = call(
                lambda client: client.v1.invoices.finalize_invoice(there.id, params, options(key))
            )
        return read.invoice_fact(there)

    def look(self, intent: StripeCall) -> Any:
        _, there = self.fetch(intent)
        return None if there.status == "draft" else read.invoice_fact(there)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.alarm(UUID(intent.subject), f"Stripe did not finalize: {error}")


class PayInvoice(_OnInvoice):
    kind = CallKind.INVOICE_PAY

    def send(self, intent: StripeCall, key: str) -> Any:
        """The invoice after one try with the saved card; without a card it stays open."""
        invoice, there = self.fetch(intent)
        card = default_method(invoice.org_ref)
        if there.status == "open" and card is not None:
            params: Any = {"payment_method": card.stripe_id, "off_session": True}
            call(lambda client: client.v1.invoices.pay(there.id, params, options(key)))
            _, there = self.fetch(intent)
        return read.invoice_fact(there)

    def look(self, intent: StripeCall) -> Any:
        _, there = self.fetch(intent)
        return None if there.status == "open" else read.invoice_fact(there)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.alarm(UUID(intent.subject), f"The card was not charged: {error}")


class MarkUncollectible(_OnInvoice):
    kind = CallKind.INVOICE_WRITE_OFF

    def send(self, intent: StripeCall, key: str) -> Any:
        """The invoice marked as given up; one that was paid meanwhile stays paid."""
        _, there = self.fetch(intent)
        if there.status == "open":
            call(
                lambda client: client.v1.invoices.mark_uncollectible(
                    there.id, params=None, options=options(key)
                )
            )
            _, there = self.fetch(intent)
        return read.invoice_fact(there)

    def look(self, intent: StripeCall) -> Any:
        _, there = self.fetch(intent)
        return None if there.status == "open" else read.invoice_fact(there)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.alarm(UUID(intent.subject), f"Stripe did not mark it uncollectible: {error}")
