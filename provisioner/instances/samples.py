"""Samples over time: folded into averages as they age, forgotten after a month, read as series.

Folding moves: one statement deletes a stretch of finer rows and inserts their averages, so a sweep
that comes twice, late or never loses and doubles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from kernel.clock import AppNow, now
from provisioner.contracts.reports import REPORT_SECONDS, Series
from provisioner.models import MetricSample, Reporter


@dataclass(frozen=True)
class _Level:
    """Rows of ``seconds`` are kept so long and then become rows of ``into`` seconds."""

    seconds: int
    kept: timedelta
    into: int


# Two hours of every report are what somebody looks at who watches a run; two days of five minutes
# show a night of training; a month of hours shows what was paid for.
_LEVELS: Final = (
    _Level(REPORT_SECONDS, timedelta(hours=2), 300),
    _Level(300, timedelta(days=2), 3600),
)
KEPT: Final = timedelta(days=30)
# A stretch takes a second with thousands of rentals: after a day without sweeps the next ones catch
# up, a minute of work each.
_STRETCHES: Final = 60

# More points than a screen has columns say nothing.
MOST_POINTS: Final = 720
# Reports come every 15 s, give or take: in steps of 15 s every other one would look like a gap.
LEAST_STEP: Final = 2 * REPORT_SECONDS
_STEPS: Final = (LEAST_STEP, 60, 120, 300, 600, 900, 1800, 3600)

_FOLD = """
WITH old AS (
  DELETE FROM provisioner_metricsample
  WHERE seconds = %(seconds)s AND at >= %(begin)s AND at < %(end)s RETURNING *
), card AS (
  SELECT old.reporter_id, d.place, avg(d.gpu) AS gpu, avg(d.used)::bigint AS used,
    avg(d.total)::bigint AS total, avg(d.celsius) AS celsius
  FROM old, unnest(old.gpu_percent, old.memory_used_bytes, old.memory_total_bytes,
    old.temperature_c) WITH ORDINALITY AS d(gpu, used, total, celsius, place)
  GROUP BY 1, 2
), cards AS (
  SELECT reporter_id, array_agg(gpu ORDER BY place) AS gpu, array_agg(used ORDER BY place) AS used,
    array_agg(total ORDER BY place) AS total, array_agg(celsius ORDER BY place) AS celsius
  FROM card GROUP BY 1
), disk AS (
  SELECT reporter_id, avg(disk_used_bytes)::bigint AS used, avg(disk_total_bytes)::bigint AS total
  FROM old GROUP BY 1
)
INSERT INTO provisioner_metricsample (reporter_id, seconds, at, gpu_percent, memory_used_bytes,
  memory_total_bytes, temperature_c, disk_used_bytes, disk_total_bytes)
SELECT disk.reporter_id, %(into)s, %(begin)s, coalesce(cards.gpu, '{}'),
  coalesce(cards.used, '{}'), coalesce(cards.total, '{}'), coalesce(cards.celsius, '{}'),
  disk.used, disk.total
FROM disk LEFT JOIN cards USING (reporter_id)
ON CONFLICT DO NOTHING
"""

_OF_MINE = """
WITH mine AS (SELECT s.*, floor(extract(epoch FROM s.at - %(since)s) / %(step)s)::int AS n
FROM provisioner_instance i JOIN provisioner_metricsample s ON s.reporter_id = i.id
WHERE i.rental_ref = %(ref)s AND s.seconds IN (15, 300, 3600)
  AND s.at >= %(since)s AND s.at < %(until)s)
SELECT {}
"""
_CARDS = _OF_MINE.format(
    """n, d.place::int - 1, round(avg(d.gpu)::numeric, 1)::float8, avg(d.used)::bigint,
  avg(d.total)::bigint, round(avg(d.celsius)::numeric, 1)::float8
FROM mine, unnest(mine.gpu_percent, mine.memory_used_bytes, mine.memory_total_bytes,
  mine.temperature_c) WITH ORDINALITY AS d(gpu, used, total, celsius, place)
GROUP BY 1, 2"""
)
_DISK = _OF_MINE.format(
    "n, avg(disk_used_bytes)::bigint, avg(disk_total_bytes)::bigint FROM mine GROUP BY 1"
)
_OF_CARD: Final = ("gpu_percent", "memory_used_bytes", "memory_total_bytes", "temperature_c")
_OF_DISK: Final = ("disk_used_bytes", "disk_total_bytes")


def sweep() -> int:
    """Fold what has aged and forget what is past its month; stretches folded."""
    at = now()
    folded = sum(_fold(level, at) for level in _LEVELS)
    MetricSample.objects.filter(seconds=_LEVELS[-1].into, at__lt=at - KEPT).delete()
    # Their samples are gone before: the newest becomes an hour's, which begins earlier still.
    forgotten = Reporter.objects.filter(reported_at__lt=AppNow() - KEPT - timedelta(days=1))
    forgotten.filter(samples__isnull=True).delete()
    return folded


def step_for(*, since: datetime, until: datetime, at: datetime, wanted: int | None) -> int:
    """Seconds between points: at least what is wanted, what is kept that far back, and what keeps
    the number of points in bounds. PURE."""
    kept = next((level.seconds for level in _LEVELS if since >= at - level.kept), _LEVELS[-1].into)
    # One more point than the span has steps, where neither end lies on a step.
    least = max(kept, wanted or 0, LEAST_STEP)
    span = (until - since).total_seconds()
    fitting = (step for step in _STEPS if step >= least and span / step + 2 <= MOST_POINTS)
    if wanted is not None and span / least + 2 <= MOST_POINTS:
        return least
    return next(fitting, int(span / (MOST_POINTS - 2)) + 1)


def series(*, rental_ref: UUID, since: datetime, until: datetime, step: int | None) -> Series:
    """The figures of a rental's machines in [since, until), at steps that step_for chooses."""
    step = step_for(since=since, until=until, at=now(), wanted=step)
    begin = int(since.timestamp()) // step
    count = -(-int(until.timestamp()) // step) - begin
    first = datetime.fromtimestamp(begin * step, UTC)
    last = first + timedelta(seconds=count * step)
    given: dict[str, Any] = {"ref": rental_ref, "since": first, "until": last, "step": step}
    ids = _device_ids(rental_ref)
    values: dict[tuple[str, int | None], list[float | None]] = {}

    def put(name: str, device: int | None, n: int, value: Any) -> None:
        values.setdefault((name, device), [None] * count)[n] = value

    if ids is not None:
        # What is known of is shown, if only as a gap.
        for place in range(len(ids)):
            values.update({(name, place): [None] * count for name in _OF_CARD})
        values.update({(name, None): [None] * count for name in _OF_DISK})
    with connection.cursor() as cursor:
        cursor.execute(_CARDS, given)
        for n, place, *figures in cursor.fetchall():
            for name, value in zip(_OF_CARD, figures, strict=True):
                put(name, place, n, value)
        cursor.execute(_DISK, given)
        for n, *figures in cursor.fetchall():
            for name, value in zip(_OF_DISK, figures, strict=True):
                put(name, None, n, value)
    return Series(first, last, step, ids or [], values)


def _device_ids(rental_ref: UUID) -> list[str] | None:
    """As the machine that reported last calls its cards; None where none ever did."""
    rows = Reporter.objects.filter(instance__rental_ref=rental_ref).order_by("-reported_at")
    return rows.values_list("device_ids", flat=True).first()


def _fold(level: _Level, at: datetime) -> int:
    """Fold whole stretches that are past their time, the oldest first; how many."""
    done = 0
    while done < _STRETCHES:
        oldest = (
            MetricSample.objects.filter(seconds=level.seconds)
            .order_by("at")
            .values_list("at", flat=True)
            .first()
        )
        if oldest is None:
            break
        begin = datetime.fromtimestamp(int(oldest.timestamp()) // level.into * level.into, UTC)
        end = begin + timedelta(seconds=level.into)
        if end > at - level.kept:
            break
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            given: dict[str, Any] = {"seconds": level.seconds, "into": level.into}
            cursor.execute(_FOLD, {**given, "begin": begin, "end": end})
        done += 1
    return done
