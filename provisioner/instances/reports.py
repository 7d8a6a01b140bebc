"""Reports of instances: whose they are, how often they may come, and what is kept of them.

A report changes its reporter's row and adds a sample. It never touches an instance, an interval or
a charge: a check inside the tenant's pod cannot close a meter (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from kernel.arrays import array
from kernel.clock import now
from kernel.errors import InvalidRequest
from provisioner.contracts.reports import REPORT_SECONDS, InstanceReport, Quiet, Reporting
from provisioner.instances import report_token
from provisioner.instances.quiet import MOST_GAP, Watched, quiet_since
from provisioner.models import Instance, MetricSample, Reporter

# Every 15 s is asked for. A repeated or a hurried report costs a lock and nothing else, and no pod
# can fill the table faster than this.
LEAST_PAUSE: Final = timedelta(seconds=5)

_QUIET = """
SELECT i.rental_ref, greatest(p.quiet_since, r.opened_at), p.reported_at
FROM provisioner_instance i
JOIN provisioner_reporter p ON p.instance_id = i.id
JOIN provisioner_readyinterval r ON r.instance_id = i.id AND r.closed_at IS NULL
WHERE i.rental_ref = ANY(%(refs)s::uuid[]) AND i.desired = 'run' AND i.state = 'ready'
  AND p.quiet_since IS NOT NULL AND p.reported_at >= r.opened_at
  AND p.reported_at >= app_now() - make_interval(secs => %(gap)s)
"""


def reporting(token: str) -> Reporting | None:
    """Who may report with this token; None for anything else than the token of an instance that
    runs, is on its way up, or is not yet asked to end."""
    key: bytes = settings.GPUYARD_SEALING_KEY
    instance_id = report_token.instance_of(token, key=key)
    if instance_id is None:
        return None
    rows = Instance.objects.filter(pk=instance_id, desired=Instance.Desired.RUN)
    gpus = rows.filter(gone_at__isnull=True).values_list("gpus", flat=True).first()
    return None if gpus is None else Reporting(instance_id, gpus)


def take(reporting: Reporting, report: InstanceReport) -> float:
    """Store a report: 0.0, or the seconds to wait where it comes too early and is not stored.

    Raises InvalidRequest for more cards than the instance has.
    """
    if len(report.devices) > reporting.gpus:
        message = f"at most {reporting.gpus}, which is what this instance has"
        raise InvalidRequest({"devices": [message]})
    with transaction.atomic(durable=True):
        at = now()
        row, first = Reporter.objects.select_for_update().get_or_create(
            pk=reporting.instance_id, defaults=_told(report, None, reporting.gpus, at)
        )
        if not first:
            at = now()  # the lock may have been waited for
            wait = LEAST_PAUSE - (at - row.reported_at)
            if timedelta(0) < wait <= LEAST_PAUSE:
                return wait.total_seconds()
            before = Watched(row.reported_at, row.boot, row.quiet_since)
            told = _told(report, before, reporting.gpus, at)
            Reporter.objects.filter(pk=row.pk).update(**told)
        sample = _sample(reporting.instance_id, report, at)
        MetricSample.objects.bulk_create([sample], ignore_conflicts=True)
    return 0.0


def quiet(rental_refs: Sequence[UUID]) -> dict[UUID, Quiet]:
    """Of these rentals, those whose every card is reported to do nothing: from when to when.

    Not before the cards were proven ready last, and of the machine that runs now only.
    """
    with connection.cursor() as cursor:
        cursor.execute(_QUIET, {"refs": array(rental_refs), "gap": MOST_GAP.total_seconds()})
        return {ref: Quiet(since, until) for ref, since, until in cursor.fetchall()}


def _told(
    report: InstanceReport, before: Watched | None, gpus: int, at: datetime
) -> dict[str, object]:
    return {
        "reported_at": at,
        "pod_at": report.at,
        "boot": report.boot,
        "ssh": report.ssh or "",
        "device_ids": [one.id for one in report.devices],
        "listening": None if report.ports is None else list(report.ports),
        "quiet_since": quiet_since(before, report, gpus=gpus, at=at),
    }


def _sample(instance_id: UUID, report: InstanceReport, at: datetime) -> MetricSample:
    cards = report.devices
    return MetricSample(
        reporter_id=instance_id,
        seconds=REPORT_SECONDS,
        at=at,
        gpu_percent=[one.gpu_percent for one in cards],
        memory_used_bytes=[one.memory_used_bytes for one in cards],
        memory_total_bytes=[one.memory_total_bytes for one in cards],
        temperature_c=[one.temperature_c for one in cards],
        disk_used_bytes=report.disk.used_bytes if report.disk else None,
        disk_total_bytes=report.disk.total_bytes if report.disk else None,
    )
