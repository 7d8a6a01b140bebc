"""Billing's loops for Celery: no arguments; a wake-up and the beat run the same code.

Stripe's package is imported by the worker when a loop first runs, never by the web process.
"""

from __future__ import annotations

from celery import shared_task

from billing.invoicing.month_end import close_due
from billing.ledger.months import finish
from billing.metering.mirror import collect
from billing.payments.promo import expire
from billing.payouts.mature import mature_all
from billing.payouts.run import run_due


@shared_task(name="billing.stripe_out")
def stripe_out() -> None:
    """Execute intents towards Stripe."""
    from billing.stripe_gateway.execute import drain

    drain()


@shared_task(name="billing.stripe_in")
def stripe_in() -> None:
    """Apply Stripe's events."""
    from billing.stripe_gateway.inbox import drain

    drain()


@shared_task(name="billing.promotions")
def promotions() -> None:
    """Take back promotional credit whose date has come."""
    expire()


@shared_task(name="billing.stripe_poll")
def stripe_poll() -> None:
    """Read Stripe's event list for what no webhook brought."""
    from billing.stripe_gateway.poll import poll

    poll()


@shared_task(name="billing.meter_mirror")
def meter_mirror() -> None:
    """Batch settled usage for Stripe's meters."""
    collect()


@shared_task(name="billing.invoices")
def invoices() -> None:
    """Close the month of post-paid organizations."""
    close_due()


@shared_task(name="billing.reconcile")
def reconcile() -> None:
    """Compare everything with itself and with Stripe, once a night."""
    from billing.stripe_gateway.reconcile import nightly

    nightly()


@shared_task(name="billing.journal")
def journal() -> None:
    """Digests of months that were locked."""
    finish()


@shared_task(name="billing.maturity")
def maturity() -> None:
    """Make due what providers' shares have matured."""
    mature_all()


@shared_task(name="billing.payouts")
def payouts() -> None:
    """Make the week's payout run, and start what waited out its day."""
    run_due()


@shared_task(name="billing.stripe_follow")
def stripe_follow() -> None:
    """Look after our balance, providers' accounts and payouts at Stripe."""
    from billing.stripe_gateway.follow import follow

    follow()
