"""Reserving cards: two statements in the caller's transaction.

The first locks one candidate's share row, skipping those that others hold; all writers of slots
and counters lock that row first, so after it the picture cannot change. The second takes the
slots and writes instance, holds and first event. No group row is touched: it would be hot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from kernel import sealed
from kernel.ids import new_id
from kernel.wake import wake_on_commit
from provisioner.contracts import (
    Fault,
    InstanceState,
    InstanceView,
    NoCandidate,
    Plan,
    PodOrder,
)
from provisioner.instances import access_keys
from provisioner.instances.naming import SECRETS, pod_name_of
from provisioner.instances.order import check_order
from provisioner.instances.reasons import REASONS
from provisioner.volumes import attach, namespaces

# A waiting caller holds a web worker: longer than this and a queue behind one slow transaction
# fills them all; shorter and a commit under load is mistaken for a full house.
LOCK_WAIT_MS = 1000

# Candidates of the first statement. One of them is free unless a burst is under way, and joining
# all 200 takes three times as long.
_FIRST_TRY = 16

# Waiting goes in primary-key order, which every waiter shares, so waiters cannot deadlock.
_LOCK_SHARE = """
SELECT s.id, s.group_id, n.id, n.name, c.id, b.id, b.name
FROM unnest(%(shares)s::uuid[]) WITH ORDINALITY AS wanted(id, rank)
JOIN provisioner_nodeshare s ON s.id = wanted.id
JOIN provisioner_node n ON n.id = s.node_id
JOIN provisioner_cluster c ON c.id = n.cluster_id
LEFT JOIN provisioner_namespace b
  ON b.cluster_id = c.id AND b.tenant_ref = %(tenant)s AND b.usable
WHERE s.sellable AND s.slots_free >= %(gpus)s
  AND c.state = 'ready' AND c.drain_requested_at IS NULL AND c.preflight_passed
ORDER BY {order} LIMIT 1 FOR UPDATE OF s {waiting}
"""
_SKIP = _LOCK_SHARE.format(order="wanted.rank", waiting="SKIP LOCKED")
_WAIT = _LOCK_SHARE.format(order="s.id", waiting="")

_TAKE = """
WITH bound AS (
  SELECT id FROM provisioner_namespace
  WHERE id = %(namespace)s AND tenant_ref = %(tenant)s FOR KEY SHARE
), picked AS (
  SELECT id, last_to, row_number() OVER (ORDER BY number) AS place FROM (
    SELECT id, last_to, number FROM provisioner_slot
    WHERE share_id = %(share)s AND state = 'free' ORDER BY number LIMIT %(gpus)s FOR UPDATE
  ) free
), fit AS (
  SELECT app_now() AS at FROM bound WHERE (SELECT count(*) FROM picked) = %(gpus)s
), taken AS (
  UPDATE provisioner_slot SET state = 'held' FROM fit
  WHERE provisioner_slot.id IN (SELECT id FROM picked)
), counted AS (
  UPDATE provisioner_nodeshare SET slots_free = slots_free - %(gpus)s FROM fit
  WHERE provisioner_nodeshare.id = %(share)s
), noted AS (
  INSERT INTO provisioner_groupchange (group_id) SELECT %(group)s FROM fit
), made AS (
  INSERT INTO provisioner_instance (
    id, rental_ref, tenant_ref, cluster_id, share_id, namespace_id, gpus, accelerator, memory_mib,
    vcpus_milli, ram_mib, disk_mib, "order", secrets_sealed, desired, generation, end_reason,
    end_fault, state, reason, state_since, event_seq, followed_seq, created_at, pod_name, seen,
    due_at, attempts
  )
  SELECT %(id)s, %(rental)s, %(tenant)s, %(cluster)s, %(share)s, bound.id, %(gpus)s, g.accelerator,
    g.memory_mib, g.vcpus_milli_per_gpu * %(gpus)s, g.ram_mib_per_gpu * %(gpus)s, %(disk)s,
    %(order)s::jsonb, %(secrets)s, 'run', 1, '', '', 'reserved', 'placed', fit.at, 1, 0, fit.at,
    %(pod_name)s, '{}'::jsonb, fit.at, 0
  FROM fit, bound, provisioner_devicegroup g WHERE g.id = %(group)s
), held AS (
  INSERT INTO provisioner_hold (id, slot_id, instance_id, rental_ref, from_ts)
  SELECT ids.id, picked.id, %(id)s, %(rental)s, greatest(fit.at, picked.last_to)
  FROM fit, picked JOIN unnest(%(holds)s::uuid[]) WITH ORDINALITY AS ids(id, place) USING (place)
), entered AS (
  -- Not again with a later instance of the rental: its keys may have been changed since the order.
  INSERT INTO provisioner_entry (rental_ref, authorized, changed_at)
  SELECT %(rental)s, %(authorized)s, fit.at FROM fit ON CONFLICT DO NOTHING
), told AS (
  INSERT INTO provisioner_instanceevent (
    id, instance_id, seq, at, state, reason, fault, text, evidence
  )
  SELECT %(event)s, %(id)s, 1, fit.at, 'reserved', 'placed', %(fault)s, %(text)s,
    %(evidence)s::jsonb FROM fit
)
SELECT at FROM fit
"""


@dataclass(frozen=True)
class _Place:
    share: UUID
    group: UUID
    node: UUID
    node_name: str
    cluster: UUID
    namespace: UUID | None
    namespace_name: str | None


def reserve(
    *,
    plan: Plan,
    instance_id: UUID,
    rental_ref: UUID,
    tenant_ref: UUID,
    order: PodOrder,
    gpus: int,
    disk_mib: int,
    wait: bool = False,
) -> InstanceView:
    """Hold ``gpus`` slots of the first candidate that can be locked, for this instance.

    In a transaction. ``wait``: wait up to LOCK_WAIT_MS for rows that others hold instead of
    skipping them. Raises NoCandidate when nothing of the plan is left, and for the order's
    volumes NotFound, Refusal volume_in_use, invalid_transition.
    """
    check_order(order)
    volumes = attach.lock(order.volumes, tenant=tenant_ref)
    left = attach.reachable(plan.candidates, volumes, order.volumes)
    while left:
        place = _lock_share([c.share_id for c in left], tenant=tenant_ref, gpus=gpus, wait=wait)
        if place is None:
            break
        if place.namespace is None:
            place = _bind(place, tenant_ref)
        if place.namespace is None:
            left = [c for c in left if c.cluster_id != place.cluster]
            continue
        view = _take(
            place,
            instance_id=instance_id,
            rental_ref=rental_ref,
            tenant_ref=tenant_ref,
            order=order,
            gpus=gpus,
            disk_mib=disk_mib,
            why=next(c.why for c in left if c.share_id == place.share),
        )
        if view is not None:
            attach.attach(
                volumes,
                order.volumes,
                instance_id=instance_id,
                tenant=tenant_ref,
                cluster_id=place.cluster,
                namespace_id=place.namespace,
                at=view.created_at,
            )
            wake_on_commit("provisioner.instances")
            wake_on_commit("provisioner.summaries")
            return view
        left = [c for c in left if c.share_id != place.share]
    raise NoCandidate


def _lock_share(shares: Sequence[UUID], *, tenant: UUID, gpus: int, wait: bool) -> _Place | None:
    given: dict[str, Any] = {"tenant": tenant, "gpus": gpus}
    if not wait:
        for some in (shares[:_FIRST_TRY], shares[_FIRST_TRY:]):
            place = _one_place(_SKIP, {**given, "shares": list(some)}) if some else None
            if place is not None:
                return place
        return None
    given["shares"] = list(shares)
    try:
        with transaction.atomic(), _lock_timeout():
            return _one_place(_WAIT, given)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            return None
        raise


@contextmanager
def _lock_timeout() -> Iterator[None]:
    """LOCK_WAIT_MS for the statements inside; an error resets it with the savepoint."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        before = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_WAIT_MS}ms"])
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _one_place(sql: str, given: dict[str, Any]) -> _Place | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        row = cursor.fetchone()
    return None if row is None else _Place(*row)


def _bind(place: _Place, tenant: UUID) -> _Place:
    """The place with the tenant's namespace in it, or without one when the pool is exhausted."""
    bound = namespaces.bind(cluster=place.cluster, tenant=tenant)
    namespace, name = bound if bound is not None else (None, None)
    return _Place(
        place.share, place.group, place.node, place.node_name, place.cluster, namespace, name
    )


def _take(
    place: _Place,
    *,
    instance_id: UUID,
    rental_ref: UUID,
    tenant_ref: UUID,
    order: PodOrder,
    gpus: int,
    disk_mib: int,
    why: str,
) -> InstanceView | None:
    public_order, secrets = _split(order, instance_id)
    pod_name = pod_name_of(instance_id)
    given = {
        "id": instance_id,
        "rental": rental_ref,
        "tenant": tenant_ref,
        "cluster": place.cluster,
        "share": place.share,
        "group": place.group,
        "namespace": place.namespace,
        "gpus": gpus,
        "disk": disk_mib,
        "order": json.dumps(public_order),
        "secrets": secrets,
        "pod_name": pod_name,
        "authorized": [access_keys.fingerprint(line) for line in order.ssh_public_keys],
        "holds": [new_id() for _ in range(gpus)],
        "event": new_id(),
        "fault": Fault.NONE.value,
        "text": REASONS["placed"].text,
        "evidence": json.dumps({"node": place.node_name, "why": why}),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, given)
        row = cursor.fetchone()
    if row is None:
        return None
    return InstanceView(
        id=instance_id,
        rental_ref=rental_ref,
        tenant_ref=tenant_ref,
        cluster_id=place.cluster,
        group_id=place.group,
        node_id=place.node,
        node=place.node_name,
        namespace=place.namespace_name or "",
        pod_name=pod_name,
        pod_uid=None,
        state=InstanceState.RESERVED,
        reason="placed",
        created_at=row[0],
        ready_at=None,
        pod_created_at=None,
    )


def _split(order: PodOrder, instance_id: UUID) -> tuple[dict[str, Any], bytes | None]:
    """The order as JSON without its environment, and that sealed for this instance.

    Values given in clear are sealed as well: people paste tokens into the wrong field.
    """
    data = asdict(order)
    data["volumes"] = [
        {"volume": str(m.volume_id), "path": m.path, "read_only": m.read_only}
        for m in order.volumes
    ]
    secret = {key: data.pop(key) for key in ("env", "secret_env", "pull_secret")}
    data["env_names"] = sorted({**order.env, **order.secret_env})
    data["has_pull_secret"] = order.pull_secret is not None
    if not any(secret.values()):
        return data, None
    key: bytes = settings.GPUYARD_SEALING_KEY
    plain = json.dumps(secret).encode()
    return data, sealed.seal(plain, key=key, owner=str(instance_id), field=SECRETS)
