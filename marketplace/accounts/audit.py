"""The audit trail: rows written inside the business transaction, chained afterwards.

:func:`record` adds an unchained row, so no write waits for the chain's tail. One sealer
(:func:`seal`, every few seconds) gives rows their sequence number and hash; :func:`verify` walks
the chain and names the first row that was changed, removed or never sealed.

Limit: somebody who may rewrite both tables and recompute every later hash leaves a consistent
chain; printing the newest hash elsewhere (the verifier does) is what catches that.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Min

from kernel.clock import now
from marketplace.accounts.access import Principal
from marketplace.models import AuditEntry, AuditSeal

# One sealer at a time: the chain has one tail. Any constant that no other advisory lock uses.
_LOCK = 0x6175646974  # "audit"
# Rows per transaction: small enough to hold the lock for milliseconds.
_BATCH = 500
_FIRST = bytes(32)
# Rows become visible out of id order; one older than this without a seal is a fault.
UNSEALED_LIMIT = timedelta(seconds=60)
# Requests and loops commit within seconds; this is far beyond all of them.
_LONGEST_TRANSACTION = timedelta(minutes=10)


def record(
    *,
    acting: Principal | str,
    action: str,
    object: str,
    organization_ref: UUID | None,
    details: dict[str, Any] | None = None,
) -> AuditEntry:
    """Add a row in the caller's transaction.

    acting: the principal, or a loop's name such as ``"platform"``. action: ``"rental.start"``.
    object: the public id acted on. details: JSON values, never a secret.
    """
    if isinstance(acting, Principal):
        staff = acting.is_staff and organization_ref != acting.owner_ref
        actor = acting.staff_actor if staff else acting.actor
    else:
        actor, staff = acting, False
    return AuditEntry.objects.create(
        organization_ref=organization_ref,
        actor=actor,
        on_behalf=str(organization_ref) if staff and organization_ref else "",
        action=action,
        object=object,
        details=details or {},
    )


def digest(prev: bytes, seq: int, entry: AuditEntry) -> bytes:
    """The hash of one link: the previous hash, the number, and the row's whole content."""
    content = json.dumps(
        [
            seq,
            str(entry.id),
            str(entry.organization_ref),
            entry.actor,
            entry.on_behalf,
            entry.action,
            entry.object,
            entry.details,
            entry.ts.isoformat(),
        ],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(prev + content.encode()).digest()


def unsealed() -> tuple[int, datetime | None]:
    """How many rows are not chained yet, and the time of the oldest; an old one means that the
    sealer is not running. Looks behind the chain's end only: the cost is that of what waits."""
    tail = AuditSeal.objects.order_by("-seq").values_list("entry_id", flat=True).first()
    waiting = AuditEntry.objects.filter(seal=None)
    if tail is not None:
        waiting = waiting.filter(id__gte=_shortly_before(tail))
    found = waiting.aggregate(count=Count("id"), oldest=Min("ts"))
    return found["count"], found["oldest"]


def _shortly_before(entry: UUID) -> UUID:
    """An id as old as the longest transaction that may still commit an older row: ids begin with
    their milliseconds."""
    millis = (entry.int >> 80) - int(_LONGEST_TRANSACTION.total_seconds() * 1000)
    return UUID(int=max(millis, 0) << 80)


def about(*, object: str, organization_ref: UUID | None) -> list[AuditEntry]:
    """What was done with one object of an organization, oldest first."""
    rows = AuditEntry.objects.filter(organization_ref=organization_ref, object=object)
    return list(rows.order_by("id"))


def seal() -> int:
    """Chain every row not chained yet; how many that were. Another sealer at work: 0."""
    sealed = 0
    while True:
        count = _seal_batch()
        sealed += count
        if count < _BATCH:
            return sealed


def _seal_batch() -> int:
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
            row = cursor.fetchone()
        if not row or not row[0]:
            return 0
        tail = AuditSeal.objects.order_by("-seq").first()
        seq, prev = (tail.seq, bytes(tail.hash)) if tail else (0, _FIRST)
        seals = []
        for entry in AuditEntry.objects.filter(seal=None).order_by("ts", "id")[:_BATCH]:
            seq += 1
            link = digest(prev, seq, entry)
            seals.append(AuditSeal(seq=seq, entry=entry, prev_hash=prev, hash=link))
            prev = link
        AuditSeal.objects.bulk_create(seals)
        return len(seals)


@dataclass
class Verdict:
    """What :func:`verify` found. ``faults`` name rows; empty means that the chain holds."""

    sealed: int = 0
    unsealed: int = 0
    newest_hash: str = ""
    faults: list[str] = field(default_factory=list)


def verify() -> Verdict:
    """Walk the chain from its start and compare every link with the row it covers."""
    verdict = Verdict()
    expected_seq, prev = 1, _FIRST
    for link in AuditSeal.objects.select_related("entry").order_by("seq").iterator(_BATCH):
        entry = link.entry
        name = f"seq {link.seq}, entry {entry.id} ({entry.action} {entry.object})"
        if link.seq != expected_seq:
            verdict.faults.append(f"seq {expected_seq} is missing before {name}")
        elif bytes(link.prev_hash) != prev:
            verdict.faults.append(f"{name}: does not follow the row before it")
        elif digest(prev, link.seq, entry) != bytes(link.hash):
            verdict.faults.append(f"{name}: the content was changed after it was sealed")
        # Go on from what is stored, so that one bad row is named once and not every later one.
        expected_seq, prev = link.seq + 1, bytes(link.hash)
        verdict.sealed += 1
        verdict.newest_hash = prev.hex()
    unsealed = AuditEntry.objects.filter(seal=None)
    verdict.unsealed = unsealed.count()
    late = unsealed.filter(ts__lt=now() - UNSEALED_LIMIT).order_by("ts").first()
    if late:
        verdict.faults.append(f"entry {late.id} ({late.action} {late.object}): never sealed")
    return verdict
