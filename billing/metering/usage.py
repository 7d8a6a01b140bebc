"""Charge proven windows: thousands in a handful of statements, each second exactly once.

The decision (which windows are new, what they cost, who pays) is pure arithmetic over locked rows;
the writing is four statements whatever the number of windows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from django.db import connection
from prometheus_client import Counter

from billing.contracts import UsageWindow
from billing.ledger.accounts import Key, Purse, lock_purses, open_accounts
from billing.ledger.post import Entry, post
from billing.models import AccountKind, CauseType, RentalMeter, TransactionKind
from billing.rating.funds import REFILL, Paid, missing, paid_until, pay
from billing.rating.rate import Rated, Span, Tally, check, rate
from kernel.clock import now
from kernel.ids import new_id

log = structlog.get_logger(__name__)
OVERRUN = Counter("gpuyard_overrun_micro_total", "Use that no hold paid, borne by the platform")


@dataclass
class _Line:
    meter: RentalMeter
    seq: int
    rated: Rated
    paid: Paid
    id: UUID = field(default_factory=new_id)


class Funds:
    """What is left to take from each locked tenant while a batch is decided."""

    def __init__(self, purses: dict[UUID, Purse]) -> None:
        self.purses = purses
        self._left = {org: purse.available_micro for org, purse in purses.items()}

    def left(self, org_ref: UUID) -> int:
        return max(self._left[org_ref], 0)

    def take(self, org_ref: UUID, amount: int) -> None:
        self._left[org_ref] -= amount


def post_usage(*, windows: Sequence[UsageWindow]) -> int:
    """Charge what is new in ``windows``; the number of usage lines written.

    ValueError for a window that breaks the contract (unknown or ended rental, parts of a second,
    across an hour, in the future): a caller's mistake, and nothing of the batch is stored.
    """
    grouped = _grouped(windows)
    meters = lock_meters(grouped)
    covered = _covered(meters, grouped)
    rated = {ref: _rate(meters[ref], grouped[ref], covered[ref]) for ref in grouped}
    busy = [meters[ref] for ref, (lines, _) in sorted(rated.items()) if lines]
    if not busy:
        return 0
    accounts = _accounts(busy)
    funds = Funds(lock_purses({meter.org_ref for meter in busy}))
    lines: list[_Line] = []
    for meter in busy:
        new, tally = rated[meter.rental_ref]
        lines += [_charge(meter, one, funds) for one in new]
        meter.billable_seconds = tally.billable_seconds
        meter.charged_until = tally.charged_until
    refills = refill([meter for meter in busy if meter.running_since], funds)
    entries = [_entry(line, funds.purses[line.meter.org_ref], accounts) for line in lines]
    post(entries + refills)
    _insert(lines, entries)
    save_meters(busy)
    _alarm(lines)
    return len(lines)


def refill(
    meters: Iterable[RentalMeter], funds: Funds, *, at: datetime | None = None
) -> list[Entry]:
    """Raise holds to 75 minutes as far as the floors allow; changes the meters, returns entries.

    at: when given, the 75 minutes count from then and not from the last charged second. Rentals
    that end first are served first.
    """
    entries = []
    for meter in sorted(meters, key=lambda one: (one.paid_until or one.created_at, one.pk)):
        lag = 0 if at is None else _running_seconds(meter, at)
        wish = missing(meter.price_micro_h, held=meter.held_micro, seconds=REFILL + lag)
        grant = min(wish, funds.left(meter.org_ref))
        if not grant:
            continue
        funds.take(meter.org_ref, grant)
        meter.held_micro += grant
        purse = funds.purses[meter.org_ref]
        legs = ((purse.tenant, -grant), (purse.hold, grant))
        entries.append(Entry(TransactionKind.HOLD_REFILL, CauseType.RENTAL, meter.rental_ref, legs))
    return entries


def lock_meters(rental_refs: Iterable[UUID]) -> dict[UUID, RentalMeter]:
    """The rentals' meters, locked in key order; ValueError for one that was never held."""
    wanted = set(rental_refs)
    found = {
        meter.rental_ref: meter
        for meter in RentalMeter.objects.select_for_update()
        .filter(rental_ref__in=wanted)
        .order_by("rental_ref")
    }
    if unknown := wanted - found.keys():
        raise ValueError(f"usage of rentals that hold nothing: {sorted(map(str, unknown))[:5]}")
    return found


def save_meters(meters: Sequence[RentalMeter]) -> None:
    """Write back what a batch changed, in one statement, with paid_until worked out anew."""
    for meter in meters:
        meter.paid_until = paid_until(
            rate_micro_h=meter.price_micro_h,
            held=meter.held_micro,
            running_since=meter.running_since,
            charged_until=meter.charged_until,
        )
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE billing_rentalmeter m
               SET billable_seconds = v.billable_seconds, charged_micro = v.charged_micro,
                   provider_charged_micro = v.provider_charged_micro,
                   overrun_micro = v.overrun_micro, charged_until = v.charged_until,
                   next_seq = v.next_seq, held_micro = v.held_micro, paid_until = v.paid_until
              FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                          %s::timestamptz[], %s::int[], %s::bigint[], %s::timestamptz[])
                AS v (rental_ref, billable_seconds, charged_micro, provider_charged_micro,
                      overrun_micro, charged_until, next_seq, held_micro, paid_until)
             WHERE m.rental_ref = v.rental_ref
            """,
            [
                [meter.rental_ref for meter in meters],
                [meter.billable_seconds for meter in meters],
                [meter.charged_micro for meter in meters],
                [meter.provider_charged_micro for meter in meters],
                [meter.overrun_micro for meter in meters],
                [meter.charged_until for meter in meters],
                [meter.next_seq for meter in meters],
                [meter.held_micro for meter in meters],
                [meter.paid_until for meter in meters],
            ],
        )


def _grouped(windows: Sequence[UsageWindow]) -> dict[UUID, list[UsageWindow]]:
    grouped: dict[UUID, list[UsageWindow]] = defaultdict(list)
    present = now()
    for window in windows:
        check(window)
        if window.to_at > present:
            raise ValueError(f"a usage window of {window.rental_ref} ends in the future")
        grouped[window.rental_ref].append(window)
    return grouped


def _covered(
    meters: dict[UUID, RentalMeter], grouped: dict[UUID, list[UsageWindow]]
) -> dict[UUID, list[Span]]:
    """Charged spans that the windows may touch; windows after the last charged second, nearly
    all of them, need no look."""
    begins: dict[UUID, datetime] = {}
    for ref, windows in grouped.items():
        first, until = min(one.from_at for one in windows), meters[ref].charged_until
        if until is not None and first < until:
            begins[ref] = first
    spans: dict[UUID, list[Span]] = defaultdict(list)
    if begins:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT u.rental_ref, u.from_at, u.to_at
                  FROM unnest(%s::uuid[], %s::timestamptz[]) AS w (rental_ref, from_at)
                  JOIN billing_usageline u
                    ON u.rental_ref = w.rental_ref AND u.to_at > w.from_at
                """,
                [list(begins), list(begins.values())],
            )
            for ref, begin, end in cursor.fetchall():
                spans[ref].append((begin, end))
    return spans


def _rate(
    meter: RentalMeter, windows: list[UsageWindow], covered: list[Span]
) -> tuple[list[Rated], Tally]:
    tally = Tally(
        meter.price_micro_h, meter.provider_micro_h, meter.billable_seconds, meter.charged_until
    )
    rated, after = rate(tally, windows, covered)
    if rated and meter.ended_at is not None:
        raise ValueError(f"usage of rental {meter.rental_ref}, whose hold was returned already")
    return rated, after


def _charge(meter: RentalMeter, rated: Rated, funds: Funds) -> _Line:
    paid = pay(rated.amount_micro, held=meter.held_micro, available=funds.left(meter.org_ref))
    funds.take(meter.org_ref, paid.from_tenant)
    line = _Line(meter, meter.next_seq, rated, paid)
    meter.held_micro -= paid.from_hold
    meter.charged_micro += rated.amount_micro
    meter.provider_charged_micro += rated.provider_micro
    meter.overrun_micro += paid.overrun
    meter.next_seq += 1
    return line


def _accounts(meters: Iterable[RentalMeter]) -> dict[Key, UUID]:
    keys: set[Key] = {(AccountKind.PROVIDER_PENDING, meter.provider_ref) for meter in meters}
    keys |= {(AccountKind.REVENUE, None), (AccountKind.PLATFORM_COST, None)}
    return open_accounts(keys)


def _entry(line: _Line, purse: Purse, accounts: dict[Key, UUID]) -> Entry:
    provider = accounts[(AccountKind.PROVIDER_PENDING, line.meter.provider_ref)]
    legs = (
        (purse.hold, -line.paid.from_hold),
        (purse.tenant, -line.paid.from_tenant),
        (accounts[(AccountKind.PLATFORM_COST, None)], -line.paid.overrun),
        (provider, line.rated.provider_micro),
        (accounts[(AccountKind.REVENUE, None)], line.rated.fee_micro),
    )
    return Entry(TransactionKind.USAGE, CauseType.USAGE, line.id, legs)


def _insert(lines: Sequence[_Line], entries: Sequence[Entry]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_usageline
                   (id, rental_ref, seq, source_ref, from_at, to_at, seconds, gpus, price_micro_h,
                    amount_micro, provider_micro, fee_micro, overrun_micro, txn_id)
            SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::uuid[], %s::timestamptz[],
                   %s::timestamptz[], %s::int[], %s::int[], %s::bigint[], %s::bigint[],
                   %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[])
            """,
            [
                [line.id for line in lines],
                [line.meter.rental_ref for line in lines],
                [line.seq for line in lines],
                [line.rated.source_ref for line in lines],
                [line.rated.from_at for line in lines],
                [line.rated.to_at for line in lines],
                [line.rated.seconds for line in lines],
                [line.meter.gpus for line in lines],
                [line.meter.price_micro_h for line in lines],
                [line.rated.amount_micro for line in lines],
                [line.rated.provider_micro for line in lines],
                [line.rated.fee_micro for line in lines],
                [line.paid.overrun for line in lines],
                [entry.id for entry in entries],
            ],
        )


def _running_seconds(meter: RentalMeter, at: datetime) -> int:
    if meter.running_since is None:
        return 0
    since = max(meter.running_since, meter.charged_until or meter.running_since)
    return max(0, int((at - since).total_seconds()) + 1)


def _alarm(lines: Iterable[_Line]) -> None:
    for line in lines:
        if line.paid.overrun:
            OVERRUN.inc(line.paid.overrun)
            log.error(
                "usage_overrun",
                rental=str(line.meter.rental_ref),
                overrun_micro=line.paid.overrun,
            )
