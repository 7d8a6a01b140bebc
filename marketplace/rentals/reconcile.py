"""R2: per rental, what was charged is what was proven, to the second, at the price agreed.

Neither area below knows the other: both are asked for the same rentals, a batch at a time, and
compared here. A stretch that nobody could prove, whoever was blind, is on neither side: a gap of
ours is not charged. Compared is up to a full hour that ended an hour ago; what is proven of it by
then is charged, or charging does not work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from billing.contracts.meters import MeterKind
from billing.contracts.reconciliation import Difference, UsedView
from billing.facade import reconciliation as billing
from kernel.clock import hour_of, now
from kernel.lanes import lane
from provisioner import facade as provisioner
from provisioner.facade import disks

Windows = Sequence[tuple[datetime, datetime]]


class _Door(Protocol):
    """Who knows what is proven."""

    def proven(self, *, rental_refs: Sequence[UUID], until: datetime) -> Mapping[UUID, Windows]: ...

    def proven_refs(self, *, since: datetime, after: UUID, limit: int) -> Sequence[UUID]: ...


@dataclass(frozen=True)
class Metered:
    """What is charged by the second. name: of one, in subjects of breaks."""

    name: str
    kind: MeterKind
    door: _Door


RENTALS: Final = Metered("rental", MeterKind.GPU, provisioner)
DISKS: Final = Metered("disk", MeterKind.DISK, disks)

SETTLED: Final = timedelta(hours=1)
# Of a running rental this much is compared again each night, for what was proven late.
OVERLAP: Final = timedelta(days=2)
HOUR: Final = 1  # of the night (UTC): before the rest, which does not tell again what is told here
_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST: Final = UUID(int=0)
# Rentals asked for at once: a few thousand windows.
_BATCH: Final = 500
_SHOWN: Final = 3


def nightly() -> None:
    """Reconcile once a night, as soon as its hour has come. Between them: one query."""
    present = now()
    night = present.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if night > present:
        night -= timedelta(days=1)
    done = billing.reconciled().usage_to
    if done is None or done < hour_of(night - SETTLED):
        reconcile()


def reconcile(*, full: bool = False) -> int | None:
    """Compare, and write down what differs; the number of breaks. None: another run is under way.

    Rentals that ended before the last run are left out, unless they differed; ``full``: all.
    """
    with lane("reconcile_usage") as free:
        if not free:
            return None
        until = hour_of(now() - SETTLED)
        last = billing.reconciled().usage_to
        since = _EVER if full or last is None else last - OVERLAP
        found = [
            difference
            for metered in (RENTALS, DISKS)
            for difference in _all(metered, since=since, until=until)
        ]
        return billing.record_usage(differences=found, until=until)


def _all(metered: Metered, *, since: datetime, until: datetime) -> Iterator[Difference]:
    named = (one.subject.partition(":") for one in billing.usage_differences())
    again = [UUID(ref) for name, _, ref in named if name == metered.name]
    yield from differences(metered, again, since=_EVER, until=until)
    for refs in _batches(metered, since):
        fresh = [ref for ref in refs if ref not in again]
        yield from differences(metered, fresh, since=since, until=until)


def differences(
    metered: Metered, rental_refs: Sequence[UUID], *, since: datetime, until: datetime
) -> Iterator[Difference]:
    """What differs of these in [since, until)."""
    proofs = metered.door.proven(rental_refs=rental_refs, until=until)
    charged = {
        used.rental_ref: used
        for used in billing.used(rental_refs=rental_refs, since=since, until=until)
    }
    for ref in rental_refs:
        difference = compare(metered.name, ref, proofs.get(ref, ()), charged.get(ref), since)
        if difference is not None:
            yield difference


def compare(
    name: str, ref: UUID, proof: Windows, used: UsedView | None, since: datetime
) -> Difference | None:
    """One of them: what is proven of it with what it was charged for; None when they agree."""
    begins = since if used is None else used.begins
    proven = [(max(begin, begins), end) for begin, end in proof if end > begins]
    windows = () if used is None else used.windows
    wrong = "" if used is None else used.wrong
    unproven, uncharged = _less(windows, proven), _less(proven, windows)
    texts = [wrong] if wrong else []
    texts += [f"not charged {_text(uncharged)}"] if uncharged else []
    texts += [f"charged and not proven {_text(unproven)}"] if unproven else []
    if not texts:
        return None
    about = {f"rental:{ref}"} | (set() if used is None else {f"provider:{used.provider_ref}"})
    return Difference(
        name="usage_proven",
        subject=f"{name}:{ref}",
        expected=f"{_seconds(proven)} s",
        found=f"{_seconds(windows)} s",
        text=f"{name.capitalize()} {ref}: " + "; ".join(texts),
        amount=_seconds(windows) - _seconds(proven),
        unit="seconds of rentals",
        about=frozenset(about),
    )


def _batches(metered: Metered, since: datetime) -> Iterator[list[UUID]]:
    """Those of either side by key, some hundred at a time."""
    after = _FIRST
    while True:
        both = {
            *metered.door.proven_refs(since=since, after=after, limit=_BATCH),
            *billing.used_refs(kind=metered.kind, since=since, after=after, limit=_BATCH),
        }
        # Beyond the smaller of the two last keys one side may still have others.
        refs = sorted(both)[:_BATCH]
        if not refs:
            return
        yield refs
        after = refs[-1]


def _less(these: Windows, those: Windows) -> list[tuple[datetime, datetime]]:
    """The parts of sorted windows that lie in no other; both are disjoint and in order."""
    left: list[tuple[datetime, datetime]] = []
    for begin, end in these:
        at = begin
        for other_begin, other_end in those:
            if other_end <= at or other_begin >= end:
                continue
            if other_begin > at:
                left.append((at, other_begin))
            at = max(at, other_end)
        if at < end:
            left.append((at, end))
    return left


def _seconds(windows: Windows) -> int:
    return sum((end - begin) // timedelta(seconds=1) for begin, end in windows)


def _text(windows: Windows) -> str:
    shown = [f"{begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S}" for begin, end in windows[:_SHOWN]]
    more = len(windows) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
