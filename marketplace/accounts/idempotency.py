"""Actions that happen once, however often they are asked for.

The key's row is inserted first in the action's own transaction and the rendered answer is stored
in it before the commit: effect and answer exist together or not at all. Only success is stored; a
refusal rolls the key back too, so the same key may be tried again after the cause is mended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.db.utils import OperationalError
from django.utils.crypto import salted_hmac

from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import new_id
from marketplace.models import IdempotencyKey

T = TypeVar("T")

KEPT = timedelta(days=30)
# The contract's wait for a concurrent duplicate. Shorter answers in_progress to a client whose
# first request is about to succeed; longer holds a web thread for nothing.
_WAIT_MS = 5000
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True)
class Claim:
    """One use of an Idempotency-Key. request_hash covers method, path and body."""

    organization_ref: UUID
    key: str
    request_hash: bytes


@dataclass(frozen=True)
class Rendered:
    """An answer as it goes out: JSON bytes. ``replayed``: it was given before."""

    status: int
    body: bytes
    replayed: bool = False


def hash_request(method: str, path: str, body: Any) -> bytes:
    """SHA-256 over method, path and the body's meaning (key order and spaces do not count)."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{method}\n{path}\n{canonical}".encode()).digest()


def blinded(body: Any, names: Sequence[str]) -> Any:
    """``body`` with these values replaced by keyed digests of them.

    What is stored of a request is a plain hash; a short secret in it could be guessed from that.
    """
    if not isinstance(body, dict):
        return body
    hidden = {
        name: salted_hmac("gpuyard.idempotency", json.dumps(body[name])).hexdigest()
        for name in names
        if name in body
    }
    return {**body, **hidden}


def once(
    claim: Claim | None,
    act: Callable[[], T],
    render: Callable[[T], tuple[int, Any]],
    *,
    secret_fields: Sequence[str] = (),
) -> Rendered:
    """Run ``act`` in one durable transaction, at most once per claim; its rendered answer.

    act: the domain action; joins the transaction, a Refusal rolls everything back.
    render: its result to (status, JSON-ready value), inside the transaction.
    secret_fields: top-level fields whose values leave once: stored as null, with
    ``shown_once: true``, so a replay shows that there was a secret and not which.
    claim None: just the transaction.
    Raises Refusal: in_progress (409), idempotency_key_reuse (422), and whatever ``act`` raises.
    """
    with transaction.atomic(durable=True):
        if claim is not None:
            stored = _claim(claim)
            if stored is not None:
                return stored
        status, value = render(act())
        body = encode(value)
        if claim is not None:
            kept = body
            if secret_fields:
                hidden = dict.fromkeys(secret_fields)
                kept = encode({**value, **hidden, "shown_once": True})
            IdempotencyKey.objects.filter(
                organization_ref=claim.organization_ref, key=claim.key
            ).update(status=status, answer=kept)
        return Rendered(status, body)


def stored(claim: Claim) -> Rendered | None:
    """The answer that this request was given before, without waiting for one under way.

    For actions that look at the world before their transaction: what they find may have been
    changed by their own first run. Raises Refusal idempotency_key_reuse.
    """
    row = IdempotencyKey.objects.filter(
        organization_ref=claim.organization_ref, key=claim.key
    ).first()
    return _answered(row, claim) if row else None


def encode(value: Any) -> bytes:
    """JSON as every answer is written, so that a replay is the same bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _claim(claim: Claim) -> Rendered | None:
    """Insert the key's row; None when it is ours now, the stored answer when it was used."""
    mine = IdempotencyKey.objects.filter(organization_ref=claim.organization_ref, key=claim.key)
    row = None
    while row is None:
        if _insert(claim):
            return None
        row = mine.first()  # None: it was just forgotten for its age, so it is free again
    return _answered(row, claim)


def _answered(row: IdempotencyKey, claim: Claim) -> Rendered:
    if bytes(row.request_hash) != claim.request_hash:
        raise Refusal(
            "idempotency_key_reuse",
            "This Idempotency-Key was used for a different request. Nothing was done. Use a new "
            "key for a new request, or repeat the old one exactly.",
        )
    return Rendered(row.status, bytes(row.answer), replayed=True)


def _insert(claim: Claim) -> bool:
    with connection.cursor() as cursor:
        # ON CONFLICT waits for a concurrent holder of the same key to commit or roll back.
        cursor.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}")
        try:
            cursor.execute(
                "INSERT INTO marketplace_idempotencykey"
                " (id, organization_ref, key, request_hash, status, answer)"
                " VALUES (%s, %s, %s, %s, 0, '') ON CONFLICT (organization_ref, key) DO NOTHING",
                [new_id(), claim.organization_ref, claim.key, claim.request_hash],
            )
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise Refusal(
                "in_progress",
                "A request with this Idempotency-Key is still being worked on. Send the same "
                "request again in a moment to get its answer.",
            ) from error
        inserted: bool = cursor.rowcount == 1
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return inserted


def forget() -> int:
    """Delete keys past their 30 days; how many."""
    deleted, _ = IdempotencyKey.objects.filter(created_at__lt=now() - KEPT).delete()
    return deleted
