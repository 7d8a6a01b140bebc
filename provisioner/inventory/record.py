"""How placements on each group of cards ended: kept up to date by a loop, read by everybody.

A placement counts once, by when its end was asked for or decided, and to the group that its node
belongs to now: history goes with the cards. A restart is no end, since the same cards go on. Rows
are grouped in the database, judged here (verdict.py), and written only where something changed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection

from provisioner.contracts import Fault, InstanceState
from provisioner.contracts.reliability import Cause, Placement, ReliabilityView, Verdict
from provisioner.instances.verdict import Ended, judge, text_of
from provisioner.inventory.accelerators import by_slug
from provisioner.models import DeviceGroup, Reliability

# Longer, and a host that was mended is told for long after; shorter, and few have a sample.
WINDOW: Final = timedelta(days=30)
# Below this a single bad day moves the figure by more than a tenth.
LEAST_SAMPLE: Final = 10
WHOLE: Final = 10_000

# What an end looked like stands in its event; only these reasons need more than the instance knows.
_LOOK: Final = ["maintenance", "host_lost", "order_mismatch", "card_in_use"]
_END = """
  LEFT JOIN LATERAL (
    SELECT x.evidence FROM provisioner_instanceevent x
     WHERE x.instance_id = i.id AND x.state = 'stopping' AND i.end_reason = ANY(%(look)s)
     ORDER BY x.seq LIMIT 1
  ) e ON true
"""
_SEEN = """
  i.end_reason, i.end_fault, i.ready_at IS NOT NULL, coalesce(e.evidence ->> 'was', ''),
  jsonb_typeof(e.evidence -> 'devices') IS NOT DISTINCT FROM 'array'
    AND e.evidence -> 'devices' <> '[]'::jsonb,
  coalesce(e.evidence ->> 'without_notice', '') = 'true', i.accelerator
"""
_ENDS = f"""
SELECT s.group_id, count(*), {_SEEN}
  FROM provisioner_instance i JOIN provisioner_nodeshare s ON s.id = i.share_id {_END}
 WHERE i.end_requested_at >= app_now() - %(window)s AND i.successor_id IS NULL
 GROUP BY s.group_id, 3, 4, 5, 6, 7, 8, 9
"""  # noqa: S608 - texts of this module
_WRITE = """
WITH fresh AS (
  SELECT * FROM jsonb_to_recordset(%s::jsonb) AS
    x(id uuid, kept int, failed int, started int, failures jsonb, uncounted jsonb, bp int)
), wanted AS (
  SELECT g.id, coalesce(f.kept, 0) AS kept, coalesce(f.failed, 0) AS failed,
         coalesce(f.started, 0) AS started,
         coalesce(f.failures, '{}') AS failures, coalesce(f.uncounted, '{}') AS uncounted, f.bp
    FROM provisioner_devicegroup g LEFT JOIN fresh f ON f.id = g.id
    LEFT JOIN provisioner_reliability r ON r.group_id = g.id
   WHERE f.id IS NOT NULL OR r.group_id IS NOT NULL
), kept AS (
  INSERT INTO provisioner_reliability AS r
         (group_id, kept, failed, started, failures, uncounted, changed_at)
  SELECT id, kept, failed, started, failures, uncounted, app_now() FROM wanted ORDER BY id
  ON CONFLICT (group_id) DO UPDATE SET kept = excluded.kept, failed = excluded.failed,
    started = excluded.started, failures = excluded.failures, uncounted = excluded.uncounted,
    changed_at = excluded.changed_at
   WHERE (r.kept, r.failed, r.started, r.failures, r.uncounted) IS DISTINCT FROM
         (excluded.kept, excluded.failed, excluded.started, excluded.failures,
          excluded.uncounted)
)
UPDATE provisioner_devicegroup g
   SET reliability_bp = w.bp, reliability_sample = w.kept + w.failed
  FROM wanted w WHERE g.id = w.id
   AND (g.reliability_bp, g.reliability_sample) IS DISTINCT FROM (w.bp, w.kept + w.failed)
"""
_LAST = f"""
SELECT i.id, n.name, i.gpus, i.state, i.created_at, i.ready_at, i.end_requested_at, {_SEEN}
  FROM provisioner_nodeshare s JOIN provisioner_node n ON n.id = s.node_id
  JOIN provisioner_instance i ON i.share_id = s.id AND i.cluster_id = n.cluster_id {_END}
 WHERE s.group_id = %(group)s AND i.successor_id IS NULL
   AND (i.state <> 'gone' OR i.end_requested_at >= app_now() - %(window)s)
 ORDER BY i.created_at DESC, i.id LIMIT %(limit)s
"""  # noqa: S608 - texts of this module


@dataclass
class _Tally:
    kept: int = 0
    started: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)

    @property
    def sample(self) -> int:
        return self.kept + self.failures.total()


def share(kept: int, sample: int) -> int | None:
    """In ten-thousandths, rounded down so that only a spotless record shows a whole; None below
    the least sample."""
    return kept * WHOLE // sample if sample >= LEAST_SAMPLE else None


def refresh() -> int:
    """Bring every group's figures up to date; for how many the catalogue's changed."""
    tallies: dict[UUID, _Tally] = defaultdict(_Tally)
    with connection.cursor() as cursor:
        cursor.execute(_ENDS, _given())
        for group, count, *seen in cursor.fetchall():
            end = _ended(seen)
            verdict, cause = judge(end)
            tally = tallies[group]
            if verdict != Verdict.UNCOUNTED and end.started:
                tally.started += count
            if verdict == Verdict.KEPT:
                tally.kept += count
            elif verdict == Verdict.FAILED:
                tally.failures[cause] += count
            else:
                tally.uncounted[cause] += count
        rows = [
            {
                "id": str(group),
                "kept": tally.kept,
                "failed": tally.failures.total(),
                "started": tally.started,
                "failures": tally.failures,
                "uncounted": tally.uncounted,
                "bp": share(tally.kept, tally.sample),
            }
            for group, tally in tallies.items()
        ]
        cursor.execute(_WRITE, [json.dumps(rows)])
        return int(cursor.rowcount)


def reliabilities(*, group_ids: Collection[UUID]) -> dict[UUID, ReliabilityView]:
    """Groups' figures as the loop left them."""
    rows = Reliability.objects.in_bulk(list(group_ids))
    groups = DeviceGroup.objects.filter(pk__in=group_ids)
    return {group.pk: _view(group, rows.get(group.pk)) for group in groups}


def _view(group: DeviceGroup, row: Reliability | None) -> ReliabilityView:
    row = row or Reliability(kept=0, failed=0, started=0)
    return ReliabilityView(
        value_bp=group.reliability_bp,
        sample=row.kept + row.failed,
        least_sample=LEAST_SAMPLE,
        started=row.started,
        kept=row.kept,
        failures=_causes(row.failures),
        uncounted=_causes(row.uncounted),
    )


def placements(*, group_id: UUID, limit: int) -> list[Placement]:
    """The last ones on a group that go on or ended in the window, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, _given(group=group_id, limit=limit))
        return [_placement(row) for row in cursor.fetchall()]


def _given(**more: Any) -> dict[str, Any]:
    return {"look": _LOOK, "window": WINDOW, **more}


def _placement(row: tuple[Any, ...]) -> Placement:
    instance_id, node, gpus, state, placed_at, ready_at, ended_at, *seen = row
    verdict, cause = judge(_ended(seen)) if ended_at else (None, None)
    return Placement(
        instance_id=instance_id,
        node=node,
        gpus=gpus,
        state=InstanceState(state),
        placed_at=placed_at,
        ready_at=ready_at,
        ended_at=ended_at,
        cause=cause,
        text=text_of(cause) if cause else None,
        verdict=verdict,
    )


def _ended(seen: list[Any]) -> Ended:
    reason, fault, started, was, devices, at_once, accelerator = seen
    card = by_slug().get(accelerator)
    return Ended(
        reason=reason,
        fault=Fault(fault) if fault else None,
        started=started,
        was=was,
        checked=devices and card is not None and card[0].tool == "runtime",
        at_once=at_once,
    )


def _causes(counts: dict[str, int]) -> tuple[Cause, ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Cause(code, text_of(code), count) for code, count in ordered)
