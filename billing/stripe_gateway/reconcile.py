"""The nightly comparison of everything that billing knows with itself and with Stripe.

Compared is up to an hour ago, where both sides are complete: what Stripe did has reached us by
then, by webhook or poll. A run reads what is new since the last one, what may still change and
what differed before; a full run reads everything there ever was. What differs at first is looked
at a second time, one by one, since the two sides are read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

import structlog

from billing.contracts.reconciliation import Difference
from billing.models import StripeCursor
from billing.reconciliation import breaks, cash, ledger, meters, objects
from billing.reconciliation.echoes import without_echoes
from billing.reconciliation.reads import BOOKS, STRIPE, mark
from billing.stripe_gateway import survey
from kernel.clock import now
from kernel.errors import VendorError
from kernel.lanes import lane

T = TypeVar("T")
log = structlog.get_logger(__name__)

# Younger things may be known to one side only: webhooks come in seconds, the poller in minutes.
SETTLED: Final = timedelta(hours=1)
# Stripe's lists may show an object a little late: the windows of two runs overlap.
OVERLAP: Final = timedelta(hours=1)
# A balance is good only if nothing moved while it and the books were read.
_LOOKS: Final = 5
_EVER: Final = datetime(2011, 1, 1, tzinfo=UTC)  # before Stripe was
# A payout of Stripe's takes a week to a bank at the very most.
_LONGEST_PAYOUT: Final = timedelta(days=14)
# Of the night (UTC): after the month's end is invoiced, before anybody is at work in Europe.
HOUR: Final = 2


def reconcile(*, full: bool = False) -> int | None:
    """Compare, and write down what differs; the number of breaks that this found.

    None when another run is under way. Raises the client's errors when Stripe does not answer:
    what needs no Stripe is written down all the same, and the next run starts where this one did.
    """
    with lane("reconcile") as free:
        if not free:
            return None
        until = (now() - SETTLED).replace(second=0, microsecond=0)
        found = {name: ledger.differences(name) for name in ledger.OF_THE_LEDGER}
        failure: VendorError | None = None
        try:
            found |= _with_stripe(_EVER if full else _since(), until)
        except VendorError as error:
            log.warning("reconcile_without_stripe", error=str(error))
            failure = error
        found["provider_shares"] = ledger.differences("provider_shares")
        count = _record(found)
        mark(BOOKS, until)
        if failure is not None:
            raise failure
        mark(STRIPE, until)
        return count


def _with_stripe(since: datetime, until: datetime) -> dict[str, list[Difference]]:
    found = {
        "cash_movements": _movements(since, until),
        "stripe_objects": _objects(since, until),
        "meter_seconds": _meters(since, until),
    }
    total = _total(until)
    return found if total is None else {**found, "cash_total": total}


def _record(found: dict[str, list[Difference]]) -> int:
    """Each check's differences, without those that only repeat an earlier one's."""
    told = without_echoes(
        (difference for differences in found.values() for difference in differences),
        known=breaks.known("usage_proven"),
    )
    for name in found:
        breaks.record(name, [difference for difference in told if difference.name == name])
    return len(told)


def _movements(since: datetime, until: datetime) -> list[Difference]:
    """R3. First by sums over the window, then those that differ once more, from their beginning."""
    there: dict[str, int] = {}
    for movement in survey.movements(survey.created(since, until)):
        there[movement.key] = there.get(movement.key, 0) + movement.net_minor
    again = _again("cash_movements")
    keys, orphans = cash.booked_between(since, until, _named(again, UUID, "txn"))
    keys |= there.keys()
    here = cash.booked(keys)
    suspects = {
        key
        for key in keys
        if cash.movement(key, there.get(key, 0), here.get(key, cash.Booked())) is not None
    }
    suspects |= set(_named(again, str, "stripe"))
    looked = (
        cash.movement(key, survey.movements_of(key), cash.booked([key]).get(key, cash.Booked()))
        for key in sorted(suspects)
    )
    return [*orphans, *filter(None, looked)]


def _total(until: datetime) -> list[Difference] | None:
    """R5; None when Stripe's balance did not stand still for a moment."""
    for _ in range(_LOOKS):
        before = list(survey.movements(survey.created(until)))
        balance = survey.balance() + survey.in_transit(until - _LONGEST_PAYOUT)
        recent = {movement.key for movement in before}
        # All that these ever moved: what they moved before may be in the books or not as well.
        difference = cash.total(balance, {key: survey.movements_of(key) for key in recent})
        if difference is None:
            return []
        if list(survey.movements(survey.created(until))) == before:
            return [difference]
    log.info("balance_never_still", looks=_LOOKS)
    return None


def _objects(since: datetime, until: datetime) -> list[Difference]:
    """R4, one kind after the other."""
    again = {subject.partition(":")[2] for subject in _again("stripe_objects")}
    found: list[Difference] = []
    for reader in survey.READERS:
        suspects: dict[str, str] = {}
        listed: set[str] = set()
        for batch in _batches(survey.every(reader, since, until)):
            listed |= {seen.stripe_id for seen in batch}
            suspects |= {seen.stripe_id: seen.kind for seen in _differing(batch, until)}
        for kind in reader.names:
            waiting = objects.to_look_at(kind, since, until) - listed
            waiting |= objects.rows(kind, again).keys()
            suspects |= dict.fromkeys(waiting, kind)
        suspects |= {key: suspects.get(key, reader.names[0]) for key in again if _of(reader, key)}
        found += filter(
            None, (_looked(reader, kind, key, until) for key, kind in sorted(suspects.items()))
        )
    return found


def _of(reader: survey.Reader, stripe_id: str) -> bool:
    """Whether a break about this object was the reader's."""
    name = reader.names[0].partition(" ")[0]
    return f"{name}:{stripe_id}" in _again("stripe_objects")


def _differing(batch: Sequence[objects.Seen], until: datetime) -> Iterable[objects.Seen]:
    rows = {
        kind: objects.rows(kind, (seen.stripe_id for seen in batch if seen.kind == kind))
        for kind in {seen.kind for seen in batch}
    }
    for seen in batch:
        if objects.compare(seen, rows[seen.kind].get(seen.stripe_id), until=until) is not None:
            yield seen


def _looked(reader: survey.Reader, kind: str, stripe_id: str, until: datetime) -> Difference | None:
    """The second look: the object as it is now, then the row."""
    seen = survey.fetch(reader, stripe_id)
    row = objects.rows(kind if seen is None else seen.kind, [stripe_id]).get(stripe_id)
    if seen is None:
        return None if row is None else objects.missing(kind, stripe_id, row)
    return objects.compare(seen, row, until=until)


def _batches(seen: Iterable[objects.Seen], size: int = 500) -> Iterable[list[objects.Seen]]:
    batch: list[objects.Seen] = []
    for one in seen:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _meters(since: datetime, until: datetime) -> list[Difference]:
    """R6: our own sums, then Stripe's."""
    again = _again("meter_seconds")
    found = meters.batches(since, again)
    for pair in meters.pairs(since, until, again):
        difference = meters.compare(pair, until, survey.seconds(pair, until))
        if difference is not None:
            found.append(difference)
    return found


def _named(subjects: Iterable[str], made: Callable[[str], T], kind: str) -> list[T]:
    """The keys of the subjects of that kind."""
    parts = (subject.partition(":") for subject in subjects)
    return [made(key) for name, _, key in parts if name == kind]


def _again(name: str) -> list[str]:
    return [difference.subject for difference in breaks.known(name)]


def nightly() -> None:
    """Reconcile once a night, as soon as its hour has come; when Stripe fails, again the next time.
    Between them this costs one query."""
    night = now().replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if night > now():
        night -= timedelta(days=1)
    done = StripeCursor.objects.filter(name=STRIPE, read_to__gte=night - SETTLED).exists()
    if not done:
        try:
            reconcile()
        except VendorError:
            return  # told in the log, and by the age of the last run


def _since() -> datetime:
    row = StripeCursor.objects.filter(name=STRIPE).first()
    return _EVER if row is None else row.read_to - OVERLAP
