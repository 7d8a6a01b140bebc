"""A volume as API and portal show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernel.errors import Refusal
from kernel.ids import public
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.models import Volume
from marketplace.volumes import metering
from provisioner import facade as provisioner
from provisioner.contracts import StorageDomain, VolumeState, VolumeView

LOADED = ("datacenter", "project")
_GROWABLE = (VolumeState.AVAILABLE, VolumeState.ATTACHED)
_ENDING = (VolumeState.DELETING, VolumeState.DELETED)


def volumes(acting: Principal) -> Any:
    """The caller's volumes, loaded for describing."""
    return visible(Volume, acting).select_related(*LOADED)


def get(acting: Principal, volume_id: str) -> Volume:
    """One of the caller's volumes; raises NotFound."""
    return get_visible(Volume.objects.select_related(*LOADED), acting, volume_id)


def describe(volume: Volume) -> dict[str, Any]:
    return describe_many([volume])[0]


def describe_many(rows: Sequence[Volume]) -> list[dict[str, Any]]:
    """The contract's volume objects, with as many queries as for one."""
    ids = [row.id for row in rows]
    views = {view.id: view for view in provisioner.volumes(ids=ids)}
    costs, spent = metering.running(ids), metering.spent(ids)
    return [
        {
            **_volume(row, views[row.id]),
            "per_hour": format_micro(costs.get(row.id, 0)),
            "spent": format_micro(spent.get(row.id, 0)),
        }
        for row in rows
    ]


def actions(view: VolumeView) -> list[str]:
    """What can be asked of it now and will be carried out."""
    found = []
    if view.rental_ref is None and view.state not in (*_ENDING, VolumeState.LOST):
        found.append("attach")
    if view.rental_ref is None and view.state not in _ENDING:
        found.append("delete")
    if view.expandable and view.state in _GROWABLE:
        found.append("grow")
    return found


def _volume(row: Volume, view: VolumeView) -> dict[str, Any]:
    return {
        "id": row.public_id,
        "name": row.name,
        "project": row.project.public_id if row.project else None,
        "labels": row.labels,
        "state": view.state.value,
        "reason": view.reason,
        "reason_text": view.text,
        "actions": actions(view),
        "size_gib": view.size_gib,
        "bound_gib": view.bound_gib,
        "datacenter": row.datacenter.public_id,
        "region": row.datacenter.region,
        "country": row.datacenter.country,
        "storage": view.domain.value,
        "on_one_machine": view.domain == StorageDomain.NODE,
        "rental": public("rental", view.rental_ref) if view.rental_ref else None,
        "disk_price": format_micro(row.price_micro_gib_month),
        "currency": CURRENCY,
        "bound_at": rfc3339(view.bound_at),
        "delete_requested_at": rfc3339(view.delete_requested_at),
        "deleted_at": rfc3339(view.deleted_at),
        "lost_at": rfc3339(view.lost_at),
        "created_at": rfc3339(row.created_at),
        "version": row.version,
    }


def receipt(acting: Principal, volume_id: str) -> dict[str, Any]:
    """The signed proof of a deletion; raises NotFound, invalid_transition before there is one."""
    volume = get(acting, volume_id)
    proof = provisioner.volume_receipt(volume_id=volume.id)
    if proof is None:
        (view,) = provisioner.volumes(ids=[volume.id])
        raise Refusal(
            "invalid_transition",
            f"The volume is {view.state}: a receipt exists once it was deleted and its absence was "
            "observed in its cluster.",
            state=view.state.value,
            actions=actions(view),
        )
    return {
        "volume": volume.public_id,
        "at": rfc3339(proof.at),
        "content": proof.content,
        "sha256": proof.sha256,
        "signature": proof.signature,
        "algorithm": "Ed25519 over the SHA-256 of content as JSON, keys sorted, without spaces",
        "public_key": proof.public_key,
    }
