"""Go through what Stripe made for us since a time and note what our database does not know.

Events bring the same as soon as something happens to an object; this also finds what rests there:
an open page that a renter may still pay, a draft of an invoice. It changes nothing at Stripe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import structlog

from billing.models import CardSetup, CreditNote, Invoice, PayoutLine, Refund, TopUp
from billing.payments import unknown
from billing.stripe_gateway import read, read_returns
from billing.stripe_gateway.client import call

log = structlog.get_logger(__name__)

# More than this since a backup is no restore of last night any more.
DEEPEST = 50_000

_KNOWN: dict[str, Callable[[UUID], bool]] = {
    read.TOPUP: lambda ref: TopUp.objects.filter(id=ref).exists(),
    read.SETUP: lambda ref: CardSetup.objects.filter(id=ref).exists(),
    read.INVOICE: lambda ref: Invoice.objects.filter(id=ref).exists(),
    read_returns.REFUND: lambda ref: Refund.objects.filter(id=ref).exists(),
    read_returns.CREDIT_NOTE: lambda ref: CreditNote.objects.filter(id=ref).exists(),
    read.PAYOUT: lambda ref: PayoutLine.objects.filter(id=ref).exists(),
}


def take(since: datetime) -> int:
    """Note every unknown object made since then; their number. Raises the client's errors."""
    params: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100}
    found = 0
    for listed in (
        lambda client: client.v1.payment_intents.list(params),
        lambda client: client.v1.checkout.sessions.list(params),
        lambda client: client.v1.invoices.list(params),
        lambda client: client.v1.refunds.list(params),
        lambda client: client.v1.credit_notes.list(params),
        lambda client: client.v1.transfers.list(params),
    ):
        found += sum(map(_note, _all(listed)))
    return found


def _all(listed: Callable[[Any], Any]) -> Iterable[Any]:
    rows = call(lambda client: list(islice(listed(client).auto_paging_iter(), DEEPEST)))
    if len(rows) == DEEPEST:
        log.error("stripe_stocktake_truncated", taken=DEEPEST)
    return rows


def _note(thing: Any) -> bool:
    for name, known in _KNOWN.items():
        ref = read.ours(thing, name)
        if ref is not None:
            if known(ref):
                return False
            unknown.record(read.object_fact(thing), names=name, claimed_ref=ref)
            return True
    return False
