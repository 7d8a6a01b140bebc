"""Open a tenant, and set how far it may go below zero."""

from __future__ import annotations

from uuid import UUID

from billing.contracts.tax import TaxPoint
from billing.ledger.accounts import lock_purse, open_accounts
from billing.models import Account, AccountKind, CallKind, Customer, RentalMeter
from billing.payments.intents import intend
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound
from kernel.money import CURRENCY, MAX_MICRO, format_micro


def open_tenant(*, org_ref: UUID, email: str, name: str) -> None:
    """The organization's accounts and the intent for its Stripe customer; repeating is harmless."""
    Customer.objects.bulk_create(
        [Customer(org_ref=org_ref, email=email, name=name)], ignore_conflicts=True
    )
    open_accounts([(AccountKind.TENANT, org_ref), (AccountKind.TENANT_HOLD, org_ref)])
    intend(CallKind.CUSTOMER, key=f"cust:{org_ref}", subject=org_ref, org_ref=org_ref)


def set_credit_limit(*, org_ref: UUID, limit_micro: int) -> None:
    """Allow the balance to fall to -limit, unpaid invoices included; 0 is prepaid.

    Charges made from the first limit on are invoiced; those before it were paid by credit.
    """
    if not 0 <= limit_micro <= MAX_MICRO:
        raise InvalidRequest({"credit_limit": ["between zero and a thousand million"]})
    customer = find_customer(org_ref)
    # Meters before the account, the order everybody follows.
    meters = list(RentalMeter.objects.select_for_update().filter(org_ref=org_ref).order_by("pk"))
    purse = lock_purse(org_ref)
    owed = purse.receivable_micro - purse.balance_micro
    if limit_micro < owed:
        raise InvalidRequest(
            {
                "credit_limit": [
                    f"{format_micro(owed)} {CURRENCY} is owed; the limit can not be less"
                ]
            }
        )
    if limit_micro and not purse.credit_limit_micro:
        _check_tax_points(meters)
        customer.postpaid_since = now()
        customer.save(update_fields=["postpaid_since"])
        for meter in meters:
            meter.invoiced_seq = meter.next_seq - 1
        RentalMeter.objects.bulk_update(meters, ["invoiced_seq"], batch_size=1000)
    Account.objects.filter(id=purse.tenant).update(credit_limit_micro=limit_micro)


def _check_tax_points(meters: list[RentalMeter]) -> None:
    """What was rented to be paid by taxed credit would be invoiced without any tax."""
    untaxed = [m for m in meters if m.ended_at is None and m.tax_point == TaxPoint.TOPUP]
    if untaxed:
        raise InvalidRequest(
            {"credit_limit": ["what runs was taxed with its credit: it has to end first"]}
        )


def find_customer(org_ref: UUID) -> Customer:
    """The organization as customer; NotFound when it was never opened here."""
    customer = Customer.objects.filter(org_ref=org_ref).first()
    if customer is None:
        raise NotFound("organization")
    return customer
