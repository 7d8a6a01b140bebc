"""Machines that could be entered and cannot any more: when to look again, and what to believe.

Their reporter says so, or a look from time to time finds it. Only tries of our own, from outside,
over a minute, make a machine `degraded` by `ssh_down`: whoever is root in it can stop its SSH
server, so the meter goes on (docs/access.md). Where machines of several renters behind one relay
cannot be entered, none of them is blamed: that is ours, and staff are called.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import connection

from kernel.arrays import array
from provisioner.instances.entry import FIRST_PAUSE, LONGEST_PAUSE
from provisioner.models import Entry, Instance, WayIn

REASON: Final = "ssh_down"
# Tries in a row that found it shut. With their pauses that is a minute: a gateway or a relay that
# restarts is back before, and a renter who notices later has lost nothing.
SHUT_AFTER: Final = 8
# A machine that is believed to be open is entered this often; a silent reporter hides no longer.
# At four handshakes a second a gateway looks after 3,600 machines with a percent of a core.
LOOK_EVERY: Final = timedelta(minutes=15)
_LOOKED_AT_ONCE: Final = 100

_DOUBTED = """
SELECT i.rental_ref, i.id
  FROM provisioner_wayin w
  JOIN provisioner_instance i ON i.id = w.instance_id
  JOIN provisioner_entry e ON e.rental_ref = i.rental_ref AND e.authorized <> '{}'
  LEFT JOIN provisioner_reporter p ON p.instance_id = i.id
 WHERE i.cluster_id = ANY(%(clusters)s::uuid[]) AND w.proven_at IS NOT NULL
   AND i.desired = 'run' AND i.state IN ('ready', 'degraded')
   AND CASE WHEN w.failures > 0 THEN w.tried_at <= app_now() - make_interval(
                 secs => least(%(longest)s, %(first)s * 2 ^ least(w.failures, 20)))
            ELSE w.tried_at <= app_now() - make_interval(secs => %(every)s)
                 OR (p.ssh = 'down' AND p.reported_at > w.tried_at) END
 ORDER BY w.tried_at LIMIT %(limit)s
"""


def doubted(*, clusters: Collection[UUID]) -> list[tuple[UUID, UUID]]:
    """(rental, instance) of machines that were open once and are due for another look, behind the
    relays of these clusters; those that were not looked at for longest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            _DOUBTED,
            {
                "clusters": array(clusters),
                "first": FIRST_PAUSE.total_seconds(),
                "longest": LONGEST_PAUSE.total_seconds(),
                "every": LOOK_EVERY.total_seconds(),
                "limit": _LOOKED_AT_ONCE,
            },
        )
        rows: list[tuple[UUID, UUID]] = cursor.fetchall()
    return rows


def is_shut(row: Instance) -> bool:
    """Whether this machine, and no other renter's behind the same relay, cannot be entered.

    ``row`` with its way_in. What was said of it stays until it is entered again.
    """
    way = getattr(row, "way_in", None)
    if way is None or way.proven_at is None or way.failures < SHUT_AFTER:
        return False
    if not Entry.objects.filter(pk=row.rental_ref).exclude(authorized=[]).exists():
        return False
    return row.reason == REASON or not _others_are(row)


def _others_are(row: Instance) -> bool:
    others = WayIn.objects.filter(
        failures__gte=SHUT_AFTER,
        proven_at__isnull=False,
        instance__cluster_id=row.cluster_id,
        instance__state__in=("ready", "degraded"),
        instance__desired=Instance.Desired.RUN,
    )
    return others.exclude(instance__tenant_ref=row.tenant_ref).exists()
