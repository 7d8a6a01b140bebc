"""Credit for incidents that staff named: worked out first, then booked once per rental.

rate x seconds x percent, at most a day's seconds a rental. Seconds that an interruption's own
credit, or another incident's, gave back before are not given again, and never more goes back than
the rental paid and has not got back. By the host's fault its owner bears it, at most what it earned
from that rental in the day before; the platform bears the rest, and all of it when the fault was
its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from billing.contracts.incidents import (
    IncidentCreditView,
    IncidentPart,
    IncidentQuote,
    IncidentTerms,
)
from billing.ledger.accounts import Key, lock_purses, open_accounts
from billing.ledger.post import Entry, post
from billing.metering.earned import earned
from billing.metering.tax import give_back
from billing.models import (
    AccountKind,
    CauseType,
    IncidentCredit,
    OutageCase,
    RentalMeter,
    TransactionKind,
    UsageLine,
)
from billing.rating.rounding import HOUR
from kernel import spans
from kernel.ids import new_id
from kernel.spans import Span

# As for an interruption: longer than a day is no interruption of work any more.
MOST = int(timedelta(days=1).total_seconds())
_PER_CENT = 100
_COST: Key = (AccountKind.PLATFORM_COST, None)
_TAX: Key = (AccountKind.TAX_PAYABLE, None)


def quote(*, terms: IncidentTerms, parts: Sequence[IncidentPart]) -> list[IncidentQuote]:
    """What each rental would be given now; those without a meter are left out. No locks."""
    refs = [part.rental_ref for part in parts]
    meters = RentalMeter.objects.filter(rental_ref__in=refs).order_by("rental_ref")
    return _work_out(terms, parts, list(meters))


def credit(*, terms: IncidentTerms, parts: Sequence[IncidentPart]) -> dict[UUID, int]:
    """Book what each rental is given, per rental; 0 for those that get nothing. In a transaction.

    Repeating it books nothing more: once per incident and rental.
    """
    refs = [part.rental_ref for part in parts]
    locked = RentalMeter.objects.select_for_update().filter(rental_ref__in=refs)
    meters = {meter.rental_ref: meter for meter in locked.order_by("rental_ref")}
    before = IncidentCredit.objects.filter(incident_ref=terms.incident_ref, meter__in=refs)
    given = dict(before.values_list("meter_id", "amount_micro"))
    open_parts = [part for part in parts if part.rental_ref not in given]
    quotes = _work_out(terms, open_parts, list(meters.values()))
    due = [one for one in quotes if one.amount_micro > 0]
    if due:
        by_rental = {part.rental_ref: part for part in open_parts}
        _book(terms, due, meters, by_rental)
    given |= {one.rental_ref: one.amount_micro for one in due}
    return {ref: given.get(ref, 0) for ref in refs}


def interrupted(*, rental_refs: Iterable[UUID]) -> dict[UUID, list[Span]]:
    """Per rental, the stretches that were credited as interruptions."""
    found: dict[UUID, list[Span]] = defaultdict(list)
    for case in OutageCase.objects.filter(meter__in=list(rental_refs)):
        span = (case.from_at, case.from_at + timedelta(seconds=case.seconds))
        found[case.meter_id].append(span)
    return found


def credits_of(*, rental_ref: UUID) -> list[IncidentCreditView]:
    """What a rental was given for incidents, oldest first."""
    return [
        IncidentCreditView(
            rental_ref=row.meter_id,
            txn_id=row.txn_id,
            title=row.title,
            from_at=row.from_at,
            to_at=row.to_at,
            seconds=row.seconds,
            percent=row.percent,
            amount_micro=row.amount_micro,
            created_at=row.created_at,
        )
        for row in IncidentCredit.objects.filter(meter=rental_ref).order_by("id")
    ]


def _work_out(
    terms: IncidentTerms, parts: Sequence[IncidentPart], meters: Sequence[RentalMeter]
) -> list[IncidentQuote]:
    refs = [meter.rental_ref for meter in meters]
    stretches = {part.rental_ref: part.spans for part in parts}
    gone, paid_back = _given_back(refs)
    limits = earned(refs, terms.from_at) if terms.by_provider else {}
    quotes = []
    for meter in meters:
        ref = meter.rental_ref
        if ref not in stretches:
            continue
        affected = spans.whole(spans.overlap(stretches[ref], [(terms.from_at, terms.to_at)]))
        total = spans.seconds(affected)
        # A second of which any part was given back is given back.
        before = total - spans.seconds(spans.whole(spans.less(affected, gone[ref])))
        seconds = max(0, min(total, MOST) - before)
        left = meter.charged_micro - meter.overrun_micro - meter.credited_micro - paid_back[ref]
        amount = meter.price_micro_h * seconds * terms.percent // (HOUR * _PER_CENT)
        amount = max(0, min(amount, left))
        quotes.append(
            IncidentQuote(
                rental_ref=ref,
                org_ref=meter.org_ref,
                provider_ref=meter.provider_ref,
                price_micro_h=meter.price_micro_h,
                affected_seconds=total,
                credited_seconds=before,
                seconds=seconds,
                amount_micro=amount,
                provider_micro=min(amount, limits.get(ref, 0)),
            )
        )
    return quotes


def _given_back(refs: Sequence[UUID]) -> tuple[dict[UUID, list[Span]], dict[UUID, int]]:
    """Per rental, the stretches that were given back before, and the sum of incidents' credits."""
    gone: dict[UUID, list[Span]] = defaultdict(list, interrupted(rental_refs=refs))
    sums: dict[UUID, int] = defaultdict(int)
    for row in IncidentCredit.objects.filter(meter__in=refs):
        gone[row.meter_id] += spans.read(row.spans)
        sums[row.meter_id] += row.amount_micro
    return gone, sums


def _book(
    terms: IncidentTerms,
    due: Sequence[IncidentQuote],
    meters: Mapping[UUID, RentalMeter],
    parts: Mapping[UUID, IncidentPart],
) -> None:
    purses = lock_purses({one.org_ref for one in due})
    pending: dict[UUID, Key]
    pending = {one.rental_ref: (AccountKind.PROVIDER_PENDING, one.provider_ref) for one in due}
    accounts = open_accounts([*pending.values(), _COST, _TAX])
    rows = [_row(terms, one, parts[one.rental_ref]) for one in due]
    IncidentCredit.objects.bulk_create(rows)
    entries, touched = [], []
    last = _last_lines(terms, [one.rental_ref for one in due])
    for one, row in zip(due, rows, strict=True):
        meter = meters[one.rental_ref]
        tax = give_back(meter)
        touched.append(meter)
        legs = (
            (purses[one.org_ref].tenant, one.amount_micro + tax),
            (accounts[_TAX], -tax),
            (accounts[pending[one.rental_ref]], -one.provider_micro),
            (accounts[_COST], one.provider_micro - one.amount_micro),
        )
        entries.append(
            Entry(
                TransactionKind.INCIDENT_CREDIT,
                CauseType.INCIDENT,
                row.id,
                legs,
                linked=last.get(one.rental_ref),
                id=row.txn_id,
            )
        )
    post(entries)
    RentalMeter.objects.bulk_update(touched, ["tax_returned_micro"])


def _row(terms: IncidentTerms, one: IncidentQuote, part: IncidentPart) -> IncidentCredit:
    return IncidentCredit(
        incident_ref=terms.incident_ref,
        meter_id=one.rental_ref,
        title=terms.title,
        from_at=terms.from_at,
        to_at=terms.to_at,
        spans=spans.stored(spans.whole(part.spans)),
        seconds=one.seconds,
        percent=terms.percent,
        amount_micro=one.amount_micro,
        provider_micro=one.provider_micro,
        txn_id=new_id(),
    )


def _last_lines(terms: IncidentTerms, refs: Sequence[UUID]) -> dict[UUID, UUID]:
    """Per rental, the transaction of its last use before the incident's end: as old as that is, so
    is what its owner gives back."""
    lines = UsageLine.objects.filter(meter__in=refs, from_at__lt=terms.to_at)
    newest = lines.order_by("meter", "-seq").distinct("meter")
    return dict(newest.values_list("meter_id", "txn_id"))
