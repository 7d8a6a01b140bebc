"""The marketplace's loops: no arguments, the same code for beat and wake-ups.

What sends webhooks is imported when it first runs: only the worker speaks to a network.
"""

from __future__ import annotations

from celery import shared_task

from kernel.turns import in_turn
from marketplace.accounts import audit, auto_topup, idempotency, letters, looks, receipts, tokens
from marketplace.accounts import mail as mailing
from marketplace.catalog import history, opening
from marketplace.catalog import publish as publishing
from marketplace.catalog import saved as saved_searches
from marketplace.providers import alerts as alerting
from marketplace.rentals import budgets, dunning, idle, incident_posting, ladder, telling, unmet
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import freeze as freezing
from marketplace.rentals import lease as leasing
from marketplace.rentals import notice as noticing
from marketplace.rentals import outage as compensating
from marketplace.rentals import place as placing
from marketplace.rentals import reconcile as reconciling
from marketplace.rentals import taken_back as taking_back
from marketplace.webhooks import health


@shared_task(name="marketplace.follow")
def follow() -> None:
    """Instances' events into rentals; end dates; settlement of what has ended."""
    following.follow()


@shared_task(name="marketplace.charge")
def charge() -> None:
    """Proven windows into usage lines; holds of ended rentals given back."""
    in_turn("charge", charging.charge, charging.settle)


@shared_task(name="marketplace.funds")
def funds() -> None:
    """Stop what held money or a budget does not pay any more; notices of what is about to come."""
    in_turn("funds", charging.funds, budgets.sweep, noticing.announce)


@shared_task(name="marketplace.idle")
def idle_stops() -> None:
    """Notices to rentals whose cards do nothing, and their stop."""
    idle.sweep()


@shared_task(name="marketplace.taken_back")
def taken_back() -> None:
    """Notices to rentals whose cards their owner takes back, and their stop."""
    taking_back.sweep()


@shared_task(name="marketplace.reconcile")
def reconcile() -> None:
    """What was charged against what was proven, once a night."""
    reconciling.nightly()


@shared_task(name="marketplace.freeze")
def freeze() -> None:
    """Organizations whose payment is contested spend nothing more."""
    freezing.freeze()


@shared_task(name="marketplace.outages")
def outages() -> None:
    """Credit for what faults broke off."""
    compensating.compensate()


@shared_task(name="marketplace.incidents")
def incident_credits() -> None:
    """Book what staff ordered to be given back for incidents."""
    incident_posting.post_due()


@shared_task(name="marketplace.auto_topup")
def auto_topups() -> None:
    """Charge saved cards where a balance runs low and its people ordered that."""
    auto_topup.run()


@shared_task(name="marketplace.ladder")
def funds_ladder() -> None:
    """Tell people when money will end and has ended, or an invoice is late; delete what nobody
    paid for in time."""
    in_turn("ladder", ladder.run, dunning.run)


@shared_task(name="marketplace.place")
def place() -> None:
    """Cards for rentals that wait for them."""
    placing.place()


@shared_task(name="marketplace.leases")
def leases() -> None:
    """Until when each pod may live without us."""
    leasing.push()


@shared_task(name="marketplace.seal_audit")
def seal_audit() -> None:
    """Close looks of staff whose time is over; chain the audit rows written since."""
    in_turn("seal_audit", looks.sweep, audit.seal)


@shared_task(name="marketplace.mail")
def mail() -> None:
    """Receipts for what was paid, mails about what happened; then the e-mails that are due."""
    in_turn("mail", receipts.order, letters.post, mailing.deliver)


@shared_task(name="marketplace.alerts")
def alerts() -> None:
    """Mails about rentals, clusters, hosts and payouts that no action of anybody tells of."""
    in_turn("alerts", telling.sweep, alerting.sweep)


@shared_task(name="marketplace.publish")
def publish() -> None:
    """Draft offers for groups of cards that appeared; the next times in which offers are open."""
    in_turn("publish", publishing.sync_offers, opening.advance)


@shared_task(name="marketplace.card_samples")
def card_samples() -> None:
    """What is on sale of each card, once an hour."""
    history.record()


@shared_task(name="marketplace.saved_searches")
def look_again() -> None:
    """Tell people whose saved search has found free cards."""
    saved_searches.sweep()


@shared_task(name="marketplace.forget")
def forget() -> None:
    """Drop idempotency keys, e-mail proofs, sessions, webhook events, old counts and samples."""
    in_turn(
        "forget",
        idempotency.forget,
        tokens.forget,
        letters.forget,
        health.forget,
        unmet.forget,
        history.forget,
    )


@shared_task(name="marketplace.webhooks")
def webhooks() -> None:
    """Send webhooks that are due."""
    from marketplace.webhooks.deliver import run

    run()
