"""The webhook's door: check the signature, store the raw event once, wake the inbox.

The signature scheme is Stripe's documented one and is checked here without Stripe's package, so
that the web process carries no client of it. Nothing in the payload is trusted beyond its id and
type: the inbox fetches the object itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from billing.models import StripeEvent
from kernel.errors import Refusal
from kernel.wake import wake_on_commit

# Stripe's own tolerance: longer would let an old capture be replayed, shorter refuses slow clocks.
TOLERANCE = 300


def receive(*, payload: bytes, signature: str) -> None:
    """Store the event in ``payload``; Refusal("malformed") unless Stripe signed it recently."""
    if not verified(payload, signature, secret=settings.STRIPE_WEBHOOK_SECRET, at=time.time()):
        raise Refusal("malformed", "The signature is not Stripe's. Nothing was stored.")
    try:
        raw = payload.decode()
        event = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal("malformed", "The body is not JSON. Nothing was stored.") from error
    store(event, raw=raw, source="webhook")


def store(event: Any, *, raw: str, source: str) -> None:
    """Store one event unless its id is known, and wake the inbox after commit."""
    row = _row(event, raw, source)
    if row is None:
        raise Refusal("malformed", "The body is no Stripe event. Nothing was stored.")
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    wake_on_commit("billing.stripe_in")


def verified(payload: bytes, header: str, *, secret: str, at: float) -> bool:
    """Whether ``header`` (t=seconds,v1=hex,…) signs ``payload`` within the tolerance of ``at``."""
    parts = [part.split("=", 1) for part in header.split(",") if "=" in part]
    stamps = [value for name, value in parts if name.strip() == "t"]
    given = [value.strip() for name, value in parts if name.strip() == "v1"]
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdigit()):
        return False
    if len(stamps[0]) > 12 or abs(at - int(stamps[0])) > TOLERANCE:
        return False
    signed = stamps[0].encode() + b"." + payload
    wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    return any(hmac.compare_digest(wanted, one.encode()) for one in given)


def _row(event: Any, raw: str, source: str) -> StripeEvent | None:
    if not isinstance(event, dict):
        return None
    identifier, kind = event.get("id"), event.get("type")
    if not isinstance(identifier, str) or not isinstance(kind, str):
        return None
    if not 0 < len(identifier) <= 255 or not 0 < len(kind) <= 100:
        return None
    data = event.get("data")
    inner = data.get("object") if isinstance(data, dict) else event.get("related_object")
    object_id = inner.get("id") if isinstance(inner, dict) else None
    created = event.get("created")
    return StripeEvent(
        id=identifier,
        type=kind,
        object_id=object_id[:255] if isinstance(object_id, str) else "",
        created=datetime.fromtimestamp(created, tz=UTC) if isinstance(created, int) else None,
        raw=raw,
        source=source,
    )
