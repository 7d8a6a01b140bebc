"""Breaks: differences with an age and somebody who looks after them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Count, Min

from billing.contracts.reconciliation import CHECKS, BreakView, Difference
from billing.models import Break
from billing.payouts.breaks import open_breaks
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal

log = structlog.get_logger(__name__)


def record(name: str, differences: Iterable[Difference]) -> int:
    """What the check ``name`` finds now, all of it; the number of open breaks.

    A difference seen again keeps its row and its age, one that is gone is resolved. One that a
    person had declared resolved and that is still there is open again.
    """
    seen = {difference.subject[:200]: difference for difference in differences}
    present = now()
    with transaction.atomic():
        rows = Break.objects.select_for_update().filter(name=name, gone_at__isnull=True)
        standing = {row.subject: row for row in rows.order_by("id")}
        for subject, difference in seen.items():
            row = standing.get(subject)
            if row is None:
                row = Break(name=name, subject=subject, first_seen_at=present)
                log.error("break_found", check=name, subject=subject, text=difference.text)
            _show(row, difference, present)
            row.save()
        for subject, row in standing.items():
            if subject not in seen:
                row.gone_at = present
                row.resolved_at = row.resolved_at or present
                row.save(update_fields=["gone_at", "resolved_at"])
                log.info("break_gone", check=name, subject=subject)
    return len(seen)


def _show(row: Break, difference: Difference, present: datetime) -> None:
    row.rule = CHECKS[difference.name].rule
    row.expected = difference.expected[:200]
    row.found = difference.found[:200]
    row.text = difference.text[:500]
    row.amount, row.unit = difference.amount, difference.unit
    row.about = sorted(difference.about | {difference.subject})[:1000]
    row.last_seen_at = present
    row.resolved_at, row.resolved_by = None, ""


def known(name: str) -> list[Difference]:
    """What a check found in its last run."""
    return [
        Difference(
            name=row.name,
            subject=row.subject,
            expected=row.expected,
            found=row.found,
            text=row.text,
            amount=row.amount,
            unit=row.unit,
            about=frozenset(row.about),
        )
        for row in Break.objects.filter(name=name, gone_at__isnull=True).order_by("id")
    ]


def breaks(*, state: str | None = None) -> list[BreakView]:
    """Newest first; ``state``: open or resolved."""
    rows = Break.objects.order_by("-id")
    if state is not None:
        rows = rows.filter(resolved_at__isnull=state == "open")
    return [_view(row) for row in rows]


def one(break_id: UUID) -> BreakView:
    """One break; NotFound."""
    row = Break.objects.filter(id=break_id).first()
    if row is None:
        raise NotFound("break")
    return _view(row)


def about(break_id: UUID) -> frozenset[str]:
    """What a break is connected with."""
    return frozenset(Break.objects.filter(id=break_id).values_list("about", flat=True).get())


def edit(break_id: UUID, *, owner: str | None = None, note: str | None = None) -> BreakView:
    """In a transaction: who looks after it, what was found; None leaves it. NotFound."""
    row = _locked(break_id)
    row.owner = row.owner if owner is None else owner[:100]
    row.note = row.note if note is None else note[:5000]
    row.save(update_fields=["owner", "note"])
    return _view(row)


def resolve(break_id: UUID, *, by: str, note: str) -> BreakView:
    """In a transaction: a person explains it. If it is still there, the next run opens it again.

    NotFound; InvalidRequest without a note; Refusal invalid_transition when it is resolved.
    """
    row = _locked(break_id)
    if not note.strip():
        raise InvalidRequest({"note": ["say what you found"]})
    if row.resolved_at is not None:
        raise Refusal(
            "invalid_transition", "This break is resolved already.", state="resolved", actions=[]
        )
    row.note, row.resolved_by = note[:5000], by[:100]
    row.resolved_at = now()
    row.save(update_fields=["note", "resolved_by", "resolved_at"])
    return _view(row)


def payouts_blocked() -> bool:
    """Whether a difference is open for longer than 72 hours: nothing is paid out over it."""
    return bool(open_breaks())


def oldest() -> datetime | None:
    """Since when the oldest open break is there."""
    rows = Break.objects.filter(resolved_at__isnull=True).order_by("first_seen_at")
    return rows.values_list("first_seen_at", flat=True).first()


def _locked(break_id: UUID) -> Break:
    row = Break.objects.select_for_update().filter(id=break_id).first()
    if row is None:
        raise NotFound("break")
    return row


def _view(row: Break) -> BreakView:
    return BreakView(
        id=row.id,
        rule=row.rule,
        name=row.name,
        subject=row.subject,
        expected=row.expected,
        found=row.found,
        text=row.text,
        amount=row.amount,
        unit=row.unit,
        owner=row.owner,
        note=row.note,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
    )


def unresolved() -> tuple[int, datetime | None]:
    """How many nobody explained, and since when the oldest is there."""
    rows = Break.objects.filter(resolved_at__isnull=True)
    found = rows.aggregate(count=Count("id"), oldest=Min("first_seen_at"))
    return found["count"], found["oldest"]
