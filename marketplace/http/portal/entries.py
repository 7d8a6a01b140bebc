"""How the ledger's transactions read to people: data, translatable."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

from marketplace.http.portal.words import Text

TRANSACTIONS: Final[dict[str, Text]] = {
    "topup": _("Top-up"),
    "usage": _("Usage"),
    "invoice": _("Invoice"),
    "invoice_void": _("Invoice cancelled"),
    "outage_credit": _("Given back"),
    "incident_credit": _("Credit for an incident"),
    "refund": _("Refund"),
    "refund_returned": _("Refund failed"),
    "dispute_lost": _("Chargeback"),
    "dispute_won": _("Chargeback turned"),
    "credit_note": _("Credit note"),
    "adjustment": _("Adjustment"),
    "promo_grant": _("Promotion"),
    "promo_expired": _("Promotion expired"),
    # Within the books, or of their other side.
    "stripe_fee": _("Stripe's fee"),
    "hold": _("Hold"),
    "hold_refill": _("Hold topped up"),
    "hold_release": _("Hold released"),
    "disk_usage": _("Usage of a volume"),
    "provider_gap": _("Owner's share of a gap"),
    "invoice_payment": _("Invoice paid"),
    "bad_debt": _("Written off"),
    "dispute": _("Payment contested"),
    "dispute_fee": _("Fee for a contested payment"),
    "maturity": _("Share matured"),
    "clawback": _("Share taken back"),
    "payout": _("Payout ordered"),
    "payout_sent": _("Payout sent"),
    "payout_returned": _("Payout returned"),
}
