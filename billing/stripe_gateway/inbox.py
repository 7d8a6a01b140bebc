"""Drain the events: each only names an object, which is fetched as it is now and converged on.

So an event that comes twice, late or out of order changes nothing, and nothing in a payload is
believed. Types that we do not use are marked ignored.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta

import structlog
from django.db import transaction
from prometheus_client import Counter

from billing.invoicing import converge as invoicing
from billing.models import EventOutcome, StripeEvent
from billing.payments import converge
from billing.payouts import converge as payouts
from billing.stripe_gateway import connect, read, return_events
from billing.stripe_gateway.follow import account_seen
from billing.stripe_gateway.outcome import outcome_of
from kernel.clock import AppNow, now
from kernel.errors import PermanentError, VendorError
from kernel.lanes import lane
from kernel.retry import backoff

log = structlog.get_logger(__name__)
EVENTS = Counter("gpuyard_stripe_events_total", "Events handled", ["type", "outcome"])
LEASE = timedelta(seconds=60)  # several fetches of at most 15 s each


def drain(*, limit: int = 1000) -> int:
    """Apply due events, oldest first; the number taken. One drain runs at a time."""
    with lane("stripe_in") as free:
        if not free:
            return 0
        for count in range(limit):
            event = _claim()
            if event is None or not _run(event):
                return count + (event is not None)
    return limit


def _claim() -> StripeEvent | None:
    with transaction.atomic():
        event = (
            StripeEvent.objects.select_for_update(skip_locked=True)
            .filter(applied_at__isnull=True, next_at__lte=AppNow())
            .order_by("next_at")
            .first()
        )
        if event is None:
            return None
        event.fence += 1
        event.tries += 1
        event.next_at = now() + LEASE * min(2 ** (event.tries - 1), 64)
        event.save(update_fields=["fence", "tries", "next_at"])
    return event


def _run(event: StripeEvent) -> bool:
    try:
        outcome = _handle(event)
    except PermanentError as error:
        # The object is gone or not readable by us: there is nothing to converge on.
        _finish(event, EventOutcome.ORPHAN, str(error))
    except VendorError as error:
        pause = backoff(event.tries - 1, base=1.0, cap=60.0, fraction=random.random())  # noqa: S311
        StripeEvent.objects.filter(id=event.id, fence=event.fence).update(
            next_at=now() + timedelta(seconds=pause), error=str(error)[:2000]
        )
        return False
    else:
        _finish(event, outcome, "")
    return True


def _handle(event: StripeEvent) -> EventOutcome:
    if event.type in BANK_EVENTS:
        return _bank_payout(event)
    handler = HANDLERS.get(event.type)
    return handler(event.object_id) if handler else EventOutcome.IGNORED


def _finish(event: StripeEvent, outcome: EventOutcome, error: str) -> None:
    if outcome == EventOutcome.ORPHAN:
        log.error("stripe_orphan", id=event.id, type=event.type, object=event.object_id)
    StripeEvent.objects.filter(id=event.id, fence=event.fence, applied_at__isnull=True).update(
        applied_at=AppNow(), outcome=outcome, error=error[:2000]
    )
    EVENTS.labels(event.type, outcome.value).inc()


def _payment_intent(object_id: str) -> EventOutcome:
    intent = read.payment_intent(object_id)
    topup = read.ours(intent, read.TOPUP)
    if topup is None:
        return EventOutcome.IGNORED  # an invoice's: the invoice's own events bring it
    known = converge.topup_payment(topup, read.payment_fact(intent))
    return outcome_of(known, intent, read.TOPUP, topup)


def _session(object_id: str) -> EventOutcome:
    found = read.session(object_id)
    fact = read.session_fact(found)
    setup = read.ours(found, read.SETUP)
    if setup is not None:
        known = converge.setup_session(setup, fact, read.saved_card(found))
        return outcome_of(known, found, read.SETUP, setup)
    topup = read.ours(found, read.TOPUP)
    if topup is None:
        return EventOutcome.IGNORED
    known = converge.topup_session(topup, fact)
    intent = found.payment_intent
    if known and intent is not None:
        name = intent if isinstance(intent, str) else intent.id
        converge.topup_payment(topup, read.payment_fact(read.payment_intent(name)))
    return outcome_of(known, found, read.TOPUP, topup)


def _payment_method(object_id: str) -> EventOutcome:
    card = read.card_fact(read.payment_method(object_id))
    known = card is not None and converge.card_seen(card)
    return EventOutcome.APPLIED if known else EventOutcome.IGNORED


def _invoice(object_id: str) -> EventOutcome:
    found = read.invoice(object_id)
    invoice = read.ours(found, read.INVOICE)
    if invoice is None:
        return EventOutcome.IGNORED
    known = invoicing.invoice_seen(invoice, read.invoice_fact(found))
    return outcome_of(known, found, read.INVOICE, invoice)


def _credit_note(object_id: str) -> EventOutcome:
    outcome, invoice = return_events.credit_note(object_id)
    if outcome == EventOutcome.APPLIED:
        _invoice(invoice)  # its payment may have come first and waited for the lower sum
    return outcome


def _transfer(object_id: str) -> EventOutcome:
    found = connect.transfer(object_id)
    line = read.ours(found, read.PAYOUT)
    if line is None:
        return EventOutcome.IGNORED
    known = payouts.transfer_seen(line, connect.transfer_fact(found))
    return outcome_of(known, found, read.PAYOUT, line)


def _account(object_id: str) -> EventOutcome:
    return EventOutcome.APPLIED if account_seen(object_id) else EventOutcome.IGNORED


def _bank_payout(event: StripeEvent) -> EventOutcome:
    """A connected account's payout to its bank; without an account it is our own to ours."""
    name = json.loads(event.raw).get("account")
    if not isinstance(name, str) or not name:
        return EventOutcome.IGNORED
    known = payouts.bank_seen(name, connect.bank_payout(name, event.object_id))
    return EventOutcome.APPLIED if known else EventOutcome.IGNORED


# Told by Stripe to endpoints that listen for connected accounts, with the account's id.
BANK_EVENTS = frozenset(
    {"payout.created", "payout.updated", "payout.paid", "payout.failed", "payout.canceled"}
)

HANDLERS: dict[str, Callable[[str], EventOutcome]] = {
    "payment_intent.succeeded": _payment_intent,
    "payment_intent.payment_failed": _payment_intent,
    "payment_intent.requires_action": _payment_intent,
    "payment_intent.canceled": _payment_intent,
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "checkout.session.async_payment_failed": _session,
    "checkout.session.expired": _session,
    "payment_method.detached": _payment_method,
    "invoice.finalized": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.voided": _invoice,
    "invoice.marked_uncollectible": _invoice,
    "charge.refunded": return_events.charge_refunded,
    "refund.created": return_events.refund,
    "refund.updated": return_events.refund,
    "refund.failed": return_events.refund,
    "charge.dispute.created": return_events.dispute,
    "charge.dispute.updated": return_events.dispute,
    "charge.dispute.closed": return_events.dispute,
    "charge.dispute.funds_withdrawn": return_events.dispute,
    "charge.dispute.funds_reinstated": return_events.dispute,
    "credit_note.created": _credit_note,
    "credit_note.updated": _credit_note,
    "credit_note.voided": _credit_note,
    "transfer.created": _transfer,
    "transfer.updated": _transfer,
    "transfer.reversed": _transfer,
    "v2.core.account[requirements].updated": _account,
    "v2.core.account[configuration.recipient].updated": _account,
    "v2.core.account[configuration.recipient].capability_status_updated": _account,
}
