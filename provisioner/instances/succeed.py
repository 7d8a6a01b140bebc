"""A restart: another instance takes over the cards of one that is gone, in the same transaction.

Cards and volumes never become free in between, so a restart cannot lose them to somebody else. The
cards are not rested either: the tenant is the same. Everything ordered stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.conf import settings

from kernel import sealed
from kernel.ids import new_id
from kernel.wake import wake_on_commit
from provisioner.contracts import Fault, InstanceState
from provisioner.instances.naming import SECRETS, pod_name_of
from provisioner.instances.reasons import REASONS
from provisioner.models import Hold, Instance, InstanceEvent, Slot
from provisioner.volumes.attach import hand_over

_SAME = (
    *("rental_ref", "tenant_ref", "cluster_id", "share_id", "namespace_id", "gpus"),
    *("accelerator", "memory_mib", "vcpus_milli", "ram_mib", "disk_mib", "order"),
)


def succeed(row: Instance, *, slots: Sequence[UUID], at: datetime) -> None:
    """Make ``row.successor_id`` from ``row``, which is gone, with its slots. In a transaction."""
    if row.successor_id is None:
        raise ValueError("an instance without a successor")
    made = Instance.objects.create(
        id=row.successor_id,
        **{name: getattr(row, name) for name in _SAME},
        secrets_sealed=_sealed_again(row),
        reason=row.end_reason,
        state_since=at,
        created_at=at,
        pod_name=pod_name_of(row.successor_id),
        due_at=at,
    )
    Hold.objects.bulk_create(
        Hold(id=new_id(), slot_id=slot, instance=made, rental_ref=row.rental_ref, from_ts=at)
        for slot in slots
    )
    Slot.objects.filter(pk__in=slots).update(last_to=at)
    hand_over(row.pk, to=made.pk, at=at)
    InstanceEvent.objects.create(
        instance=made,
        seq=1,
        at=at,
        state=InstanceState.RESERVED.value,
        reason=row.end_reason,
        fault=Fault.NONE.value,
        text=REASONS[row.end_reason].text,
        evidence={"after": row.pod_name},
    )
    wake_on_commit("provisioner.instances")


def _sealed_again(row: Instance) -> bytes | None:
    """The secrets for their new owner: a sealed value opens for the instance it was made for."""
    if row.secrets_sealed is None:
        return None
    old = bytes(row.secrets_sealed)
    key: bytes = settings.GPUYARD_SEALING_KEY
    try:
        plain = sealed.unseal(old, key=key, owner=str(row.pk), field=SECRETS)
    except sealed.CannotOpen:
        return old  # the step that creates the pod meets the same and ends the instance with it
    return sealed.seal(plain, key=key, owner=str(row.successor_id), field=SECRETS)
