"""What justifies a charged window, for people: the proof that opened it and every look since.

Proofs are the opening, each positive observation of the cluster, and the answer to the deletion.
Between two of them at most a minute apart the machine is taken to have worked, because the later
one showed the same pod, unchanged; a longer stretch must never be charged, and is named here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from provisioner.contracts.evidence import Evidence, Gap
from provisioner.models import DiskInterval, Observation, ReadyInterval

# The meter's own limits: a look is due within the first, and nothing is bridged beyond the second.
DUE = timedelta(seconds=30)
FRESH = timedelta(seconds=60)


def evidence(*, interval_id: UUID, from_at: datetime, to_at: datetime) -> Evidence:
    """What justifies [from_at, to_at) of an interval: its proof and the positive observations
    from the last one before the window to the first one after it."""
    row = ReadyInterval.objects.get(pk=interval_id)
    found = looks(row, from_at, to_at)
    proofs = [row.opened_at, *(item.at for item in found if item.at > row.opened_at)]
    if row.closed_at is not None and row.good_until == row.closed_at:
        proofs = [*(at for at in proofs if at < row.closed_at), row.closed_at]
    gaps = gaps_between(proofs, from_at, to_at)
    return Evidence(
        interval_id=row.id,
        instance_id=row.instance_id,
        pod_uid=row.pod_uid,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        close_reason=row.close_reason,
        proof=row.proof,
        observations=tuple((item.at, item.kind) for item in found),
        gaps=tuple(gaps),
        unproven_seconds=unproven(gaps),
    )


def of_disk(*, interval_id: UUID, from_at: datetime, to_at: datetime) -> Evidence:
    """The looks at its cluster that justify a window of a disk, as for machines."""
    row = DiskInterval.objects.select_related("meter").get(pk=interval_id)
    found = looks(row, from_at, to_at)
    ends = [] if row.good_until is None else [row.good_until]
    proofs = [row.opened_at, *(one.at for one in found if one.at > row.opened_at), *ends]
    gaps = gaps_between(proofs, from_at, to_at)
    return Evidence(
        interval_id=row.id,
        instance_id=None,
        pod_uid="",
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        close_reason=row.close_reason,
        proof={"gib": row.meter.gib},
        observations=tuple((one.at, one.kind) for one in found),
        gaps=tuple(gaps),
        unproven_seconds=unproven(gaps),
    )


def looks(
    row: ReadyInterval | DiskInterval, from_at: datetime, to_at: datetime
) -> list[Observation]:
    """The positive observations of its cluster from the last one before the window to the first
    one after it, oldest first."""
    seen = Observation.objects.filter(cluster_id=row.cluster_id).order_by("at")
    before = seen.filter(at__lte=from_at).last()
    after = seen.filter(at__gte=to_at).first()
    inside = seen.filter(at__gt=from_at, at__lt=to_at)
    return [*([before] if before else []), *inside, *([after] if after else [])]


def unproven(gaps: Iterable[Gap]) -> int:
    """Seconds in gaps that nothing bridges."""
    return sum(int((gap.to_at - gap.from_at).total_seconds()) for gap in gaps if not gap.bridged)


def gaps_between(proofs: Iterable[datetime], from_at: datetime, to_at: datetime) -> list[Gap]:
    """The parts of [from_at, to_at) that lie between proofs more than ``DUE`` apart, in order.

    A part before the first or after the last proof is never bridged.
    """
    known = sorted(set(proofs))
    if not known:
        return [Gap(from_at, to_at, bridged=False)]
    open_ends = [(from_at, known[0], False)] if from_at < known[0] else []
    open_ends += [(known[-1], to_at, False)] if known[-1] < to_at else []
    between = [(a, b, b - a <= FRESH) for a, b in pairwise(known) if b - a > DUE]
    cut = [
        Gap(max(begins, from_at), min(ends, to_at), bridged)
        for begins, ends, bridged in [*between, *open_ends]
    ]
    return sorted((gap for gap in cut if gap.from_at < gap.to_at), key=lambda gap: gap.from_at)
