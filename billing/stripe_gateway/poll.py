"""Read Stripe's own list of events into the inbox: a webhook that never came costs minutes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import structlog

from billing.models import StripeCursor, StripeEvent
from billing.payments.webhook import store
from billing.stripe_gateway.client import call
from billing.stripe_gateway.inbox import HANDLERS
from kernel.clock import now
from kernel.errors import VendorError
from kernel.lanes import lane

log = structlog.get_logger(__name__)
CURSOR = "events"
# Events may appear in the list a little after the time they carry.
OVERLAP = timedelta(hours=1)
# The first poll of an installation; later ones continue where the cursor stands.
FIRST = timedelta(days=1)
DEEPEST = 10_000
# Stripe takes no more types in one request.
TYPES = 20


def poll() -> int:
    """Store every event since the cursor minus an hour that is not known yet; their number."""
    with lane("stripe_poll") as free:
        if not free:
            return 0
        cursor = StripeCursor.objects.filter(name=CURSOR).first()
        since = (cursor.read_to if cursor else now() - FIRST) - OVERLAP
        try:
            events = _events(since)
        except VendorError as error:
            log.warning("stripe_poll_failed", error=str(error))
            return 0
        known = set(
            StripeEvent.objects.filter(id__in=[event["id"] for event in events]).values_list(
                "id", flat=True
            )
        )
        fresh = [event for event in events if event["id"] not in known]
        # Oldest first, and the cursor last: a crash in between reads some of them again.
        for event in reversed(fresh):
            store(event, raw=json.dumps(event), source="poll")
        _advance(events)
    return len(fresh)


def _events(since: datetime) -> list[dict[str, Any]]:
    """Events of the types we use, newest first, as plain JSON values."""
    # The list knows no thin events; whom they are about is looked at by itself (follow.py).
    types = sorted(name for name in HANDLERS if not name.startswith("v2."))
    lists = [types[first : first + TYPES] for first in range(0, len(types), TYPES)]
    found = [event for listed in lists for event in _listed(listed, since)]
    return sorted(found, key=lambda event: int(event["created"]), reverse=True)


def _listed(types: list[str], since: datetime) -> list[dict[str, Any]]:
    params: Any = {"created": {"gte": int(since.timestamp())}, "types": types, "limit": 100}
    rows = call(
        lambda client: list(islice(client.v1.events.list(params).auto_paging_iter(), DEEPEST))
    )
    if len(rows) == DEEPEST:
        log.error("stripe_poll_truncated", since=since.isoformat(), taken=DEEPEST)
    return [row.to_dict(for_json=True) for row in rows]


def _advance(events: list[dict[str, Any]]) -> None:
    if not events:
        return
    newest = datetime.fromtimestamp(max(event["created"] for event in events), tz=UTC)
    StripeCursor.objects.get_or_create(name=CURSOR, defaults={"read_to": newest})
    StripeCursor.objects.filter(name=CURSOR, read_to__lt=newest).update(read_to=newest)
