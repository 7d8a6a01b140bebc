"""Close a month for good, and prove later that nothing in it changed.

Locking writes one row, and from then on the database refuses transactions dated in the month or
before it. Transactions carry the time at which they are written, so this stops nobody. The digest
is worked out afterwards by a loop, once every transaction that was under way has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta

import structlog
from django.db import connection, transaction

from billing.contracts.journal import MonthView, TrialLine
from billing.ledger import journal
from billing.ledger.chart import Chart, chart
from billing.models import MonthLock, Transaction
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.sheet import Cell, lines
from kernel.wake import wake_on_commit

log = structlog.get_logger(__name__)
# Use of the last hour is settled and sealed a quarter past; a day leaves time for corrections.
AFTER = timedelta(days=1)


def parse_month(text: str) -> date:
    """``2026-10`` -> its first day; ValueError for anything else."""
    if len(text) != 7:
        raise ValueError("must be a month such as 2026-10")
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError as error:
        raise ValueError("must be a month such as 2026-10") from error


def months() -> list[date]:
    """Months from the first transaction to now, newest first."""
    first = Transaction.objects.order_by("id").values_list("at", flat=True).first()
    if first is None:
        return []
    found, month = [], first.date().replace(day=1)
    while month <= now().date():
        found.append(month)
        month = journal.bounds(month)[1].date()
    return found[::-1]


def listed() -> list[MonthView]:
    """The same with their locks and without sums, which take their time."""
    locks = {lock.month: lock for lock in MonthLock.objects.all()}
    return [_view(month, locks.get(month), (), None) for month in months()]


def month(first_day: date) -> MonthView:
    """The trial balance of a month and whether it is locked; NotFound before the first or after
    the present one."""
    if first_day not in months():
        raise NotFound("month")
    lock = MonthLock.objects.filter(month=first_day).first()
    names = lock.chart if lock else chart()
    sums = journal.sums(first_day)
    trial = [TrialLine(names[kind][0], names[kind][1], *pair) for kind, pair in sums.items()]
    trial.sort(key=lambda line: line.code)
    return _view(first_day, lock, tuple(trial), journal.count(first_day))


def _view(
    first_day: date, lock: MonthLock | None, trial: tuple[TrialLine, ...], count: int | None
) -> MonthView:
    return MonthView(
        month=first_day,
        state="open" if lock is None else "locked" if lock.digest else "closing",
        transactions=count,
        lines=trial,
        locked_by=lock.actor if lock else None,
        locked_at=lock.at if lock else None,
        digest=lock.digest if lock else None,
    )


def lock_month(first_day: date, *, actor: str) -> MonthView:
    """In a transaction: lock a month that ended a day ago; all before it must be locked."""
    known = months()
    if first_day not in known:
        raise NotFound("month")
    if now() < journal.bounds(first_day)[1] + AFTER:
        raise _not_now("The month can be locked from a day after its end.", "open")
    locked = set(MonthLock.objects.values_list("month", flat=True))
    earlier = [month for month in known if month < first_day and month not in locked]
    if earlier:
        raise _not_now(f"{min(earlier):%Y-%m} comes first: it is not locked yet.", "open")
    if first_day in locked:
        raise _not_now("The month is locked already.", "locked")
    if sum(debit - credit for debit, credit in journal.sums(first_day).values()):
        raise InvalidRequest({"month": ["debits and credits differ: the books are broken"]})
    MonthLock.objects.create(
        month=first_day,
        actor=actor[:100],
        xact=_number("SELECT pg_current_xact_id()::text::bigint"),
        chart=chart(),
    )
    wake_on_commit("billing.journal")
    return month(first_day)


def finish() -> int:
    """Work out the digests of months that were locked; how many."""
    done = 0
    for waiting in MonthLock.objects.filter(digest=None).order_by("month"):
        if not _all_ended(waiting):
            return done
        hours = [journal.hash_hour(at, waiting.chart) for at in journal.busy_hours(waiting.month)]
        sums = journal.sums(waiting.month)
        with transaction.atomic():
            done += MonthLock.objects.filter(id=waiting.id, digest=None).update(
                transactions=sum(hour.transactions for hour in hours),
                totals={waiting.chart[kind][0]: list(pair) for kind, pair in sums.items()},
                hours=[hour.stored() for hour in hours],
                digest=digest(journal.rows(waiting.month, waiting.chart)),
            )
        log.info("month_locked", month=str(waiting))
    return done


def rows(first_day: date) -> Iterator[list[Cell]]:
    """The journal of a month, with the chart that it was locked with."""
    lock = MonthLock.objects.filter(month=first_day).first()
    return journal.rows(first_day, lock.chart if lock else chart())


def digest(table: Iterable[Iterable[Cell]]) -> str:
    """SHA-256 of a table's CSV."""
    found = hashlib.sha256()
    for part in lines(table):
        found.update(part.encode())
    return found.hexdigest()


def verify() -> list[str]:
    """The first difference of each locked month from what was locked, in words; empty when none."""
    locks = MonthLock.objects.exclude(digest=None).order_by("month")
    return [found for lock in locks if (found := _difference(lock))]


def _difference(lock: MonthLock) -> str | None:
    stored = {datetime.fromisoformat(at): (count, sha) for at, count, sha in lock.hours or []}
    names: Chart = lock.chart
    for begins in sorted({*stored, *journal.busy_hours(lock.month)}):
        count, sha = stored.get(begins, (0, ""))
        found = journal.hash_hour(begins, names)
        if found.transactions and (found.transactions, found.digest) == (count, sha):
            continue
        where = f"{lock}: the hour from {begins:%Y-%m-%d %H:%M} UTC"
        if found.transactions != count:
            return f"{where} had {count} transactions and has {found.transactions}"
        return f"{where}: its {count} transactions are not what they were"
    if digest(journal.rows(lock.month, names)) != lock.digest:
        return f"{lock}: every hour is as it was, the whole is not: its lock was changed"
    return None


def _all_ended(lock: MonthLock) -> bool:
    """Whether every transaction that was under way when the lock was written has ended by now.

    What began later cannot be dated in the month; an older one may still commit a leg of it.
    """
    return _number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") > lock.xact


def _number(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def _not_now(why: str, state: str) -> Refusal:
    return Refusal("invalid_transition", why, state=state, actions=[])
