"""Who may come in to which machine, where it is, whether the way is open, and who came.

Ports with names are in ports.py.

Read by the gateway for each connection and every two seconds while one is open, so each question is
one statement.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q

from kernel.arrays import array
from kernel.clock import AppNow, now
from kernel.errors import NotFound
from kernel.ids import public
from kernel.wake import wake_on_commit
from provisioner.contracts import InstanceState
from provisioner.contracts.access import NamedPort, RelayValues, VisitView, WayIn
from provisioner.instances import access_keys, raw_ports
from provisioner.instances.state import COMING_UP
from provisioner.models import Cluster, Entry, Instance, Visit
from provisioner.models import WayIn as WayInRow

# A way that was not open is tried again after this, doubled with each failure, the first one too,
# up to a minute.
FIRST_PAUSE: Final = timedelta(seconds=0.25)
LONGEST_PAUSE: Final = timedelta(minutes=1)
_TRIED_AT_ONCE: Final = 100
# Addresses of people are kept as long as somebody may still ask who was in their machine, and no
# longer: a quarter covers the invoice that makes them ask.
VISITS_KEPT: Final = timedelta(days=90)
_FORGOTTEN_AT_ONCE: Final = 10_000

# The newest instance of the rental: an older one is gone or hands over to it.
_FIND = """
SELECT e.authorized, i.id, i.cluster_id, i.pod_name, n.name, i.state, i.desired,
       i.pod_uid IS NOT NULL, e.ports, e.token_version
  FROM provisioner_entry e
  LEFT JOIN LATERAL (
    SELECT * FROM provisioner_instance
     WHERE rental_ref = e.rental_ref ORDER BY created_at DESC LIMIT 1) i ON true
  LEFT JOIN provisioner_namespace n ON n.id = i.namespace_id
 WHERE e.rental_ref = %s
"""
_UNPROVEN = """
SELECT i.rental_ref, i.id
  FROM provisioner_instance i
  JOIN provisioner_entry e ON e.rental_ref = i.rental_ref
  LEFT JOIN provisioner_wayin w ON w.instance_id = i.id
 WHERE i.cluster_id = ANY(%(clusters)s::uuid[]) AND i.state <> 'gone'
   AND i.desired = 'run' AND i.state IN ('starting', 'ready', 'degraded') AND i.pod_uid IS NOT NULL
   AND w.proven_at IS NULL
   AND (w.tried_at IS NULL OR w.tried_at <= app_now() - make_interval(
          secs => least(%(longest)s, %(first)s * 2 ^ least(w.failures, 20))))
 ORDER BY w.tried_at NULLS FIRST LIMIT %(limit)s
"""
# The first one opens the cluster's offers to renters who want to get in. Noted as long as a summary
# does not say so, because an older version of ours may have summed up without it.
_SEEN = """
WITH seen AS (
  UPDATE provisioner_cluster SET relay_seen_at = app_now()
   WHERE id = ANY(%s::uuid[])
     AND (relay_seen_at IS NULL OR relay_seen_at < app_now() - interval '10 seconds')
  RETURNING id
)
INSERT INTO provisioner_groupchange (group_id)
SELECT g.id FROM provisioner_devicegroup g JOIN seen ON seen.id = g.cluster_id
 WHERE NOT g.has_relay
"""
# One statement: of two gateways that tell at one time neither may undo what the other found.
_TRIED = """
INSERT INTO provisioner_wayin AS w (instance_id, tried_at, proven_at, failures, error)
SELECT %(instance)s, at, CASE WHEN open THEN at END, CASE WHEN open THEN 0 ELSE 1 END, %(error)s
  FROM (SELECT app_now() AS at, %(error)s = '' AS open) AS this
ON CONFLICT (instance_id) DO UPDATE
   SET tried_at = excluded.tried_at, error = excluded.error,
       proven_at = coalesce(w.proven_at, excluded.proven_at),
       failures = CASE WHEN excluded.error = '' THEN 0 ELSE w.failures + 1 END
"""
_WAYS = """
SELECT i.rental_ref, w.proven_at
  FROM provisioner_instance i
  JOIN provisioner_wayin w ON w.instance_id = i.id
 WHERE i.rental_ref = ANY(%s::uuid[]) AND i.state IN ('ready', 'degraded', 'unreachable')
   AND i.desired = 'run' AND w.proven_at IS NOT NULL
"""


@dataclass(frozen=True)
class Found:
    """A rental that has not ended and its present machine; state None: it has none."""

    authorized: Sequence[str]
    instance_id: UUID | None
    cluster_id: UUID | None
    pod_name: str
    namespace: str
    state: InstanceState | None
    wanted: bool  # to run
    created: bool  # its pod exists
    ports: Mapping[int, NamedPort]
    token_version: int


def let_in(*, rental_ref: UUID, keys: Iterable[str]) -> None:
    """Exactly these public key lines open from now on. In a transaction."""
    prints = sorted({access_keys.fingerprint(line) for line in keys})
    given = {"authorized": prints, "changed_at": now()}
    Entry.objects.update_or_create(rental_ref=rental_ref, defaults=given)


def shut(*, rental_ref: UUID) -> None:
    """Nobody comes in any more: the rental has ended. In a transaction."""
    Entry.objects.filter(pk=rental_ref).delete()
    raw_ports.take_back(rental_ref=rental_ref)


def found(rental_ref: UUID) -> Found | None:
    """None for a rental that does not exist or has ended."""
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [rental_ref])
        row = cursor.fetchone()
    if row is None:
        return None
    authorized, instance, cluster, pod_name, namespace, state, desired, created = row[:8]
    ports, token_version = row[8:]
    return Found(
        authorized=authorized,
        instance_id=instance,
        cluster_id=cluster,
        pod_name=pod_name or "",
        namespace=namespace or "",
        state=InstanceState(state) if state else None,
        wanted=desired == "run",
        created=bool(created),
        ports={each["port"]: NamedPort(**each) for each in json.loads(ports)},
        token_version=token_version,
    )


def has_gateway() -> bool:
    """Whether this platform lets anybody in to machines."""
    return settings.GPUYARD_SSH_GATEWAY is not None


def relay_version(cluster_id: UUID) -> int | None:
    """Of the key that the cluster's relay has now; None where none may connect: the cluster does
    not exist, or has left and nobody's machine is there any more."""
    alive = Instance.objects.filter(cluster=OuterRef("pk")).exclude(state=InstanceState.GONE)
    here = Cluster.objects.filter(Q(drain_requested_at=None) | Exists(alive), pk=cluster_id)
    return here.values_list("relay_version", flat=True).first()


def relay_values(*, cluster_id: UUID, replace: bool) -> RelayValues:
    """What a provider's relay needs; with ``replace`` another key from now on, and the old one's
    connection ends within five seconds of the commit. In a transaction."""
    if replace:
        Cluster.objects.filter(pk=cluster_id).update(relay_version=F("relay_version") + 1)
    version = relay_version(cluster_id)
    if version is None:
        raise NotFound("cluster")
    key: bytes = settings.GPUYARD_SEALING_KEY
    address = settings.GPUYARD_SSH_GATEWAY
    return RelayValues(
        cluster=public("cluster", cluster_id),
        gateway=f"{address[0]}:{address[1]}" if address else None,
        relay_seed=access_keys.relay_seed(cluster_id, version, key=key),
        gateway_key=access_keys.public_line(access_keys.published_key(key=key)),
        image=settings.GPUYARD_TOOLS_IMAGE,
    )


# --- proof ----------------------------------------------------------------------------------------


def is_closed(row: Instance) -> bool:
    """Whether a machine may not count as running because nobody has come in from outside yet: its
    order has keys, and its cluster a relay by which they could."""
    if not row.order.get("ssh_public_keys"):
        return False
    offers_it = Cluster.objects.filter(pk=row.cluster_id, relay_seen_at__isnull=False)
    proven = WayInRow.objects.filter(instance_id=row.pk, proven_at__isnull=False)
    return offers_it.exclude(Exists(proven)).exists()


def unproven(*, clusters: Collection[UUID]) -> list[tuple[UUID, UUID]]:
    """(rental, instance) of machines behind these clusters' relays whose way in is due for a try,
    those that were never tried first. The relays are here: that is written down as well."""
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, [array(clusters)])
        if cursor.rowcount:
            wake_on_commit("provisioner.summaries")
        cursor.execute(
            _UNPROVEN,
            {
                "clusters": array(clusters),
                "first": FIRST_PAUSE.total_seconds(),
                "longest": LONGEST_PAUSE.total_seconds(),
                "limit": _TRIED_AT_ONCE,
            },
        )
        rows: list[tuple[UUID, UUID]] = cursor.fetchall()
    return rows


def tried(instance_id: UUID, *, error: str) -> None:
    """A try ended; error "": the way was open."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TRIED, {"instance": instance_id, "error": error[:200]})
        if not error:
            # It may be all that its start still waits for.
            coming = Instance.objects.filter(pk=instance_id, claim_token__isnull=True)
            coming.filter(state__in=[str(state) for state in COMING_UP]).update(due_at=AppNow())
            wake_on_commit("provisioner.instances")


def ways(*, rental_refs: Sequence[UUID]) -> dict[UUID, WayIn]:
    """Of these rentals, those whose present machine was entered from outside. One statement."""
    if settings.GPUYARD_SSH_GATEWAY is None:
        return {}
    host, port = settings.GPUYARD_SSH_GATEWAY
    line = access_keys.public_line(access_keys.published_key(key=settings.GPUYARD_SEALING_KEY))
    place = host if port == 22 else f"[{host}]:{port}"
    with connection.cursor() as cursor:
        cursor.execute(_WAYS, [array(rental_refs)])
        return {ref: WayIn(host, port, f"{place} {line}", at) for ref, at in cursor.fetchall()}


# --- visits ---------------------------------------------------------------------------------------


def came(
    *,
    rental_ref: UUID,
    instance_id: UUID,
    fingerprint: str = "",
    address: str | None = None,
    user_ref: UUID | None = None,
) -> UUID:
    """Somebody is inside, with a key of theirs or as a member at the portal; the visit's id."""
    made = Visit.objects.create(
        rental_ref=rental_ref,
        instance_id=instance_id,
        fingerprint=fingerprint,
        user_ref=user_ref,
        address=address,
        began_at=now(),
    )
    return made.pk


def went(visit_id: UUID, *, bytes_in: int, bytes_out: int, why: str) -> None:
    """They have left."""
    Visit.objects.filter(pk=visit_id, ended_at__isnull=True).update(
        ended_at=now(), bytes_in=bytes_in, bytes_out=bytes_out, why=why[:200]
    )


def forget() -> int:
    """Visits past their time, as many as one transaction may delete; those still inside stay."""
    past = Visit.objects.filter(began_at__lt=now() - VISITS_KEPT)
    over = past.exclude(ended_at__isnull=True, instance__gone_at__isnull=True)
    batch = over.order_by("began_at").values("pk")[:_FORGOTTEN_AT_ONCE]
    return Visit.objects.filter(pk__in=batch).delete()[0]


def visits(*, rental_ref: UUID, limit: int) -> list[VisitView]:
    """The latest first."""
    rows = Visit.objects.filter(rental_ref=rental_ref).order_by("-began_at", "-id")[:limit]
    return [
        VisitView(
            id=row.pk,
            instance_id=row.instance_id,
            fingerprint=row.fingerprint or None,
            user_ref=row.user_ref,
            address=row.address,
            began_at=row.began_at,
            ended_at=row.ended_at,
            bytes_in=row.bytes_in,
            bytes_out=row.bytes_out,
            why=row.why,
        )
        for row in rows
    ]
