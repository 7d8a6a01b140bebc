"""One module per resource; importing this package registers every operation."""

from devstack.stripe.resources import (  # noqa: F401
    accounts,
    charges,
    checkout,
    credit_notes,
    customers,
    disputes,
    events,
    invoice_items,
    invoice_payments,
    invoices,
    meters,
    payment_intents,
    payment_methods,
    payouts,
    portal,
    refunds,
    setup_intents,
    tax_ids,
    thin_events,
    transfers,
)
