"""Billing's tables. Nothing outside billing imports them."""

from billing.models.account import OWNED, STORED, Account, AccountKind
from billing.models.autotopup import AutoTopUp
from billing.models.correction import AGAINST, Adjustment, CreditNote, PromoGrant
from billing.models.dispute import Dispute
from billing.models.incident import IncidentCredit
from billing.models.invoice import Invoice, InvoiceCredit, InvoiceLine, InvoiceSpan
from billing.models.journal import MonthLock
from billing.models.meter import RentalMeter, UsageLine
from billing.models.mirror import MeterBatch, MeterSpan, StripeMeter
from billing.models.outage import OutageCase, OutageCredit
from billing.models.payment import (
    CardSetup,
    Customer,
    Payment,
    PaymentMethod,
    PortalSession,
    TopUp,
)
from billing.models.payout import (
    ClearedRenter,
    Maturity,
    PayoutAccount,
    PayoutApproval,
    PayoutHold,
    PayoutLine,
    PayoutRun,
    StripeBalance,
)
from billing.models.posting import CauseType, Posting, Transaction, TransactionKind
from billing.models.reconciliation import Break
from billing.models.refund import Refund, RefundOrder
from billing.models.stripe import (
    CallKind,
    CallState,
    EventOutcome,
    StripeCall,
    StripeCursor,
    StripeEvent,
)
from billing.models.tax import TaxProfile, TaxRate
from billing.models.unknown import UnknownObject

__all__ = [
    "AGAINST",
    "OWNED",
    "STORED",
    "Account",
    "AccountKind",
    "Adjustment",
    "AutoTopUp",
    "Break",
    "CallKind",
    "CallState",
    "CardSetup",
    "CauseType",
    "ClearedRenter",
    "CreditNote",
    "Customer",
    "Dispute",
    "EventOutcome",
    "IncidentCredit",
    "Invoice",
    "InvoiceCredit",
    "InvoiceLine",
    "InvoiceSpan",
    "Maturity",
    "MeterBatch",
    "MeterSpan",
    "MonthLock",
    "OutageCase",
    "OutageCredit",
    "Payment",
    "PaymentMethod",
    "PayoutAccount",
    "PayoutApproval",
    "PayoutHold",
    "PayoutLine",
    "PayoutRun",
    "PortalSession",
    "Posting",
    "PromoGrant",
    "Refund",
    "RefundOrder",
    "RentalMeter",
    "StripeBalance",
    "StripeCall",
    "StripeCursor",
    "StripeEvent",
    "StripeMeter",
    "TaxProfile",
    "TaxRate",
    "TopUp",
    "Transaction",
    "TransactionKind",
    "UnknownObject",
    "UsageLine",
]
