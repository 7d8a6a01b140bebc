"""Billing's door to the nightly reconciliation: what differs, since when, and who looks after it.

What compares with Stripe is no business of a door: `billing.reconcile` and `manage.py reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from billing.contracts.meters import MeterKind
from billing.contracts.reconciliation import (
    BreakView,
    CoverageView,
    Difference,
    ReconciledView,
    TracedView,
    UsedView,
)
from billing.reconciliation import breaks as _breaks
from billing.reconciliation import reads as _reads
from billing.reconciliation import usage as _usage


def used(*, rental_refs: Sequence[UUID], since: datetime, until: datetime) -> list[UsedView]:
    """What was charged for these rentals in a time, and before it where it was charged late. Two
    statements; rentals without a meter are absent."""
    return _usage.used(rental_refs, since=since, until=until)


def used_refs(*, kind: MeterKind, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Meters of that kind that were charged since then or run, by key."""
    return _usage.used_refs(kind=kind, since=since, after=after, limit=limit)


def usage_differences() -> list[Difference]:
    """R2 as it was found last."""
    return _breaks.known("usage_proven")


def record_usage(*, differences: Iterable[Difference], until: datetime) -> int:
    """R2: all that differs now, compared up to then; the number of open breaks."""
    count = _breaks.record("usage_proven", differences)
    _reads.mark(_reads.USAGE, until)
    return count


def breaks(*, state: str | None = None) -> list[BreakView]:
    """Newest first; ``state``: open or resolved."""
    return _breaks.breaks(state=state)


def one_break(*, break_id: UUID) -> BreakView:
    """One; NotFound."""
    return _breaks.one(break_id)


def edit_break(*, break_id: UUID, owner: str | None = None, note: str | None = None) -> BreakView:
    """In a transaction: who looks after it, what was found; None leaves it. NotFound."""
    return _breaks.edit(break_id, owner=owner, note=note)


def resolve_break(*, break_id: UUID, by: str, note: str) -> BreakView:
    """In a transaction: a person explains it; if it is still there, the next run opens it again.

    NotFound; InvalidRequest without a note; Refusal invalid_transition when it is resolved.
    """
    return _breaks.resolve(break_id, by=by, note=note)


def payouts_blocked() -> bool:
    """Whether a break is open for more than 72 hours: then nothing may be paid out."""
    return _breaks.payouts_blocked()


def reconciled() -> ReconciledView:
    """Up to which moment each part was compared last."""
    return _reads.reconciled()


def coverage() -> CoverageView:
    """R8: cash against all that is owed, a figure to watch."""
    return _reads.coverage()


def traced(*, break_id: UUID) -> list[TracedView]:
    """The newest transactions that a break is about, down to cause and Stripe's object."""
    return _reads.traced(_breaks.about(break_id))


def trace(*, txn_id: UUID) -> TracedView | None:
    """One transaction down to its cause and Stripe's object; None when there is none."""
    return _reads.trace(txn_id)
