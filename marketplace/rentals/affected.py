"""Whom an incident touched, and for how long: read off proofs, timelines and credited outages.

Degraded is what a timeline shows so, other than by the renter's own doing; interrupted is what else
the platform credited as such, or will, and what is shown as unreachable without a proof. Nothing is
measured here that was not known before the incident had a name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.facade import incidents as billing
from kernel import spans
from kernel.spans import Span
from marketplace.models import Incident, RentalEvent
from marketplace.rentals import state as states
from marketplace.rentals.reasons import REASONS, RENTER
from provisioner.facade import interruptions as provisioner

# A rental that an incident broke off was proven for the last time just before it. A day is what an
# interruption is credited for at most: who was proven before that waits for this machine no more.
_BEFORE: Final = timedelta(days=1)
_OPEN: Final = 5000
# The note of such a credit in a timeline: it says nothing of how the rental is.
NOTE: Final = "incident_credit"


@dataclass(frozen=True)
class Affected:
    """One rental. spans: what counts for its credit; open interruptions are left out of them, as
    they are credited by themselves when they are over."""

    rental_ref: UUID
    spans: tuple[Span, ...]
    interrupted_seconds: int
    degraded_seconds: int


def affected(
    *, cluster_ids: Collection[UUID] | None, from_at: datetime, to_at: datetime, basis: str
) -> list[Affected]:
    """By rental, those that the time touched on these clusters, or on all (None)."""
    window = [(from_at, to_at)]
    proven: dict[UUID, list[Span]] = defaultdict(list)
    for one in provisioner.proven_on(
        cluster_ids=cluster_ids, from_at=from_at - _BEFORE, to_at=to_at
    ):
        proven[one.rental_ref].append((one.from_at, one.to_at))
    shown = _shown(proven, to_at)
    credited = billing.interrupted(rental_refs=proven)
    lasting = _lasting(to_at)
    found = []
    for rental_ref, ready in sorted(proven.items()):
        unreachable = spans.less(shown[states.UNREACHABLE][rental_ref], ready)
        broken = [*credited.get(rental_ref, ()), *lasting[rental_ref], *unreachable]
        degraded = spans.overlap(window, shown[states.DEGRADED][rental_ref])
        interrupted = spans.less(spans.overlap(window, broken), degraded)
        counted = [*interrupted, *degraded]
        if basis == Incident.Basis.WHOLE:
            counted += ready
        stretches = spans.overlap(window, counted)
        if stretches:
            found.append(
                Affected(
                    rental_ref,
                    tuple(spans.less(stretches, lasting[rental_ref])),
                    spans.seconds(interrupted),
                    spans.seconds(degraded),
                )
            )
    return found


def _shown(rentals: Iterable[UUID], until: datetime) -> dict[str, dict[UUID, list[Span]]]:
    """By state and rental, when timelines showed it; degraded by the renter's doing is left out."""
    found: dict[str, dict[UUID, list[Span]]]
    found = {states.UNREACHABLE: defaultdict(list), states.DEGRADED: defaultdict(list)}
    events = RentalEvent.objects.filter(rental__in=list(rentals), at__lt=until)
    rows = events.exclude(reason=NOTE).order_by("rental_id", "seq")
    last: tuple[UUID, str, datetime] | None = None
    for rental_ref, state, reason, at in rows.values_list("rental_id", "state", "reason", "at"):
        if last is not None and last[1] in found:
            end = at if last[0] == rental_ref else until
            found[last[1]][last[0]].append((last[2], end))
        theirs = state == states.DEGRADED and reason in REASONS and REASONS[reason].fault == RENTER
        last = (rental_ref, "" if theirs else state, at)
    if last is not None and last[1] in found:
        found[last[1]][last[0]].append((last[2], until))
    return found


def _lasting(until: datetime) -> dict[UUID, list[Span]]:
    """By rental, the interruptions that are not over for the books."""
    found: dict[UUID, list[Span]] = defaultdict(list)
    for case in provisioner.interruptions(limit=_OPEN):
        found[case.rental_ref].append((case.from_at, case.to_at or max(until, case.from_at)))
    return found
