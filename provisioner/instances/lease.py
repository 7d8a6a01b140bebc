"""The lease of an instance in its cluster: how long it shall hold and when it is renewed.

A pod lives as long as its lease; while we are away nobody renews it, and the reaper in the cluster
ends the pod when it ran out. How long a rental is paid for only the marketplace knows: it pushes
the wish in here, and reconcile/leases.py carries it to the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from provisioner.contracts import Fault, InstanceState, ReaperState
from provisioner.instances.move import move
from provisioner.instances.reasons import REASONS
from provisioner.models import Instance

# A pod is created with its lease, often before the marketplace's first push. Ten minutes are what
# the shortest kind of lease has, so nothing has to be taken back; the push follows in a minute.
FIRST = timedelta(minutes=10)
# A create that comes late for its date still needs a lease to stand on; its end is under way.
SHORTEST = timedelta(minutes=1)
# A renewal is due when a tenth of the lease has passed, at least a minute and at most half an hour.
# Half an hour of 26 hours is what the promise of a day can spare; under a minute, ten thousand
# failover leases would cost more than 170 calls a second.
LEAST_PAUSE, MOST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)

# A reaper looks every ten seconds and gives a program thirty to end: a minute after the lease ran
# out nothing of it is left.
OVER_AFTER = timedelta(seconds=60)
# A cluster that was listed within this is asked instead.
DARK_AFTER = timedelta(seconds=60)

# Degraded by these the host is at fault: its lease is left to run out, so that another host may
# take over.
HOSTS_FAULT = tuple(code for code, known in REASONS.items() if known.fault == Fault.HOST)


def first_until(wanted: datetime | None, at: datetime) -> datetime:
    """Until when the lease that is created with the pod shall hold."""
    return at + FIRST if wanted is None else max(wanted, at + SHORTEST)


def pause(left: timedelta) -> timedelta:
    """How long after its renewal a lease of this length is renewed again."""
    return min(max(left / 10, LEAST_PAUSE), MOST_PAUSE)


def in_flight(row: Instance, at: datetime) -> bool:
    """Whether a renewal may still be on its way, which could make a lease that was deleted anew.

    Once the end is wanted no further one begins.
    """
    return row.lease_token is not None and row.lease_due_at is not None and at < row.lease_due_at


def ran_out(row: Instance, at: datetime) -> bool:
    """Whether a pod that is gone now was ended by its lease rather than lost by its host."""
    if row.lease_held_until is None or REASONS[row.reason].fault == Fault.HOST:
        return False
    return at >= row.lease_held_until


def is_over(row: Instance, at: datetime) -> bool:
    """Whether the lease of an instance that shall end ran out for certain: nothing of it runs."""
    held = row.lease_held_until
    ending = row.desired == Instance.Desired.END
    return ending and held is not None and at >= held + OVER_AFTER


def lapse(at: datetime, limit: int = 200) -> int:
    """Tell of instances that ended by their lease while nobody can ask their cluster; how many.

    Their cards stay held until absence is observed; what shall go on elsewhere may. Only where the
    reaper worked when it was last seen: without one a lease ends nothing.
    """
    lapsed = Instance.objects.filter(
        state=InstanceState.STOPPING,
        lapsed_at__isnull=True,
        lease_held_until__lte=at - OVER_AFTER,
        cluster__last_positive_at__lt=at - DARK_AFTER,
        cluster__reaper_state=ReaperState.RUNNING,
    )
    keys = list(lapsed.order_by("lease_held_until").values_list("pk", flat=True)[:limit])
    if not keys:
        return 0
    return sum(
        move(
            row,
            to=InstanceState.STOPPING,
            reason="lapsed",
            at=at,
            evidence={"lease_held_until": str(row.lease_held_until)},
            lapsed_at=at,
        )
        for row in lapsed.filter(pk__in=keys).order_by("lease_held_until")
    )


# Waits for nobody: a row that a loop holds just now gets its wish with the next push. A wish that
# is far from what the cluster holds (credit was added, a date moved) is carried there at once.
_SET = """
WITH wished AS (
  SELECT i.id, v.until FROM unnest(%(rentals)s::uuid[], %(untils)s::timestamptz[])
    AS v (rental, until)
  JOIN provisioner_instance i ON i.rental_ref = v.rental AND i.state <> 'gone'
  WHERE i.desired = 'run' AND i.lease_until IS DISTINCT FROM v.until
  ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED
)
UPDATE provisioner_instance i SET lease_until = w.until,
  lease_due_at = CASE
    WHEN i.lease_token IS NULL AND (i.lease_held_until IS NULL OR {apart}) THEN app_now()
    ELSE i.lease_due_at END
FROM wished w WHERE i.id = w.id
"""


def apart(wanted: str, held: str) -> str:
    """SQL: whether two ends of a lease differ by more than its pause, as ``pause`` counts it."""
    tenth = f"extract(epoch FROM {wanted} - app_now()) / 10"
    least, most = LEAST_PAUSE.total_seconds(), MOST_PAUSE.total_seconds()
    allowed = f"least(greatest({tenth}, {least}), {most})"
    return f"abs(extract(epoch FROM {wanted} - {held})) > {allowed}"


def set_leases(leases: Sequence[tuple[UUID, datetime]]) -> int:
    """Store until when each rental's lease shall hold; the number of wishes that changed.

    Rentals without a live instance, or whose end is wanted, are left alone.
    """
    statement = _SET.format(apart=apart("w.until", "i.lease_held_until"))
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            {
                "rentals": [rental for rental, _ in leases],
                "untils": [until for _, until in leases],
            },
        )
        return int(cursor.rowcount)
