"""The chart of accounts: which number and name an account of the ledger has in the journal.

One table. A month that is locked keeps the chart it was locked with, so renaming here changes no
journal that somebody has already signed.
"""

from __future__ import annotations

from billing.models import AccountKind

# kind -> number, name. 1 assets, 2 liabilities, 4 income, 5 costs.
CHART: dict[AccountKind, tuple[str, str]] = {
    AccountKind.STRIPE_CASH: ("1000", "Cash at Stripe"),
    AccountKind.INVOICE_AR: ("1100", "Invoices not yet paid"),
    AccountKind.DISPUTE_SUSPENSE: ("1200", "Withheld for disputes"),
    AccountKind.TENANT: ("2000", "Customers' credit"),
    AccountKind.TENANT_HOLD: ("2010", "Customers' credit held for rentals"),
    AccountKind.TENANT_PROMO: ("2020", "Customers' promotional credit"),
    AccountKind.PROVIDER_PENDING: ("2100", "Providers' shares, maturing"),
    AccountKind.PROVIDER_DUE: ("2110", "Providers' shares, due"),
    AccountKind.PROVIDER_CLEARING: ("2120", "Payouts under way"),
    AccountKind.TAX_PAYABLE: ("2200", "Tax payable"),
    AccountKind.REVENUE: ("4000", "Fees"),
    AccountKind.STRIPE_FEES: ("5000", "Stripe's fees"),
    AccountKind.PLATFORM_COST: ("5100", "Use paid by the platform"),
    AccountKind.OUTAGE_CREDIT: ("5110", "Outage credits"),
    AccountKind.PROMO_EXPENSE: ("5200", "Promotions"),
    AccountKind.BAD_DEBT: ("5300", "Bad debt"),
}

Chart = dict[str, list[str]]


def chart() -> Chart:
    """The table as JSON keeps it: kind -> [number, name]."""
    return {kind.value: list(entry) for kind, entry in CHART.items()}


def sides(amount_micro: int) -> tuple[int, int]:
    """(debit, credit) of a leg.

    The ledger's sign is the owner's: what others have with us and what we earn is positive, a
    credit; what we have and what we spend is negative, a debit.
    """
    return (-amount_micro, 0) if amount_micro < 0 else (0, amount_micro)
