"""Making, changing and deleting volumes: actions with their audit rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import new_id
from kernel.money import format_micro
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible
from marketplace.catalog.fees import fee_of
from marketplace.catalog.price import share_bps
from marketplace.models import DataCenter, Project, Provider, RentalVolume, Volume
from marketplace.volumes import confirm, metering, quota
from marketplace.volumes.place import choose_cluster
from provisioner import facade as provisioner
from provisioner.contracts import NoStorage


def create(
    *,
    acting: Principal,
    name: str,
    size_gib: int,
    datacenter_id: str | None = None,
    offer_id: str | None = None,
    project_id: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Volume:
    """A new volume; joins the caller's transaction.

    Raises NotFound, InvalidRequest, Refusal email_unverified, account_frozen, no_capacity,
    quota_exceeded, insufficient_funds.
    """
    acting.require_verified()
    acting.require_unfrozen()
    project = get_visible(Project, acting, project_id) if project_id else None
    datacenter, cluster = choose_cluster(datacenter_id=datacenter_id, offer_id=offer_id)
    volume = record(
        acting=acting,
        volume_id=new_id(),
        datacenter=datacenter,
        name=name,
        size_gib=size_gib,
        project=project,
        labels=labels,
    )
    try:
        provisioner.create_volume(
            volume_id=volume.id,
            tenant_ref=acting.org.id,
            cluster_id=cluster.id,
            size_gib=size_gib,
        )
    except NoStorage as error:
        raise Refusal(
            "no_capacity",
            f"{error} The fault is not yours. Nothing was created. Try again later, or elsewhere.",
            relaxations=[],
            alternatives=[],
            next_free_estimate=None,
        ) from error
    metering.begin(volume)
    quota.check(acting.org)
    return volume


def record(
    *,
    acting: Principal,
    volume_id: UUID,
    datacenter: DataCenter,
    name: str,
    size_gib: int,
    project: Project | None = None,
    labels: Mapping[str, str] | None = None,
    price_micro_gib_month: int | None = None,
) -> Volume:
    """The organization's row of a volume whose other row the provisioner's door makes, in this
    transaction. The caller begins its meter once both are there, and checks the quota last.

    price_micro_gib_month: as quoted; None: as the data centre has it today.
    """
    owner, today = datacenter.provider, datacenter.disk_price_micro_gib_month
    owned = owner.ownership == Provider.Ownership.OWNED
    volume = Volume.objects.create(
        id=volume_id,
        organization=acting.org,
        project=project,
        created_by=acting.user,
        datacenter=datacenter,
        name=clean(name, limit=80),
        labels=dict(labels or {}),
        size_gib=size_gib,
        price_micro_gib_month=today if price_micro_gib_month is None else price_micro_gib_month,
        share_bps=share_bps(fee_bps=fee_of(owner), owned=owned),
    )
    price = format_micro(volume.price_micro_gib_month)
    _audit(acting, volume, "volume.create", {"size_gib": size_gib, "disk_price": price})
    return volume


def change(
    *,
    acting: Principal,
    volume_id: str,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    size_gib: int | None = None,
    expected_version: int | None = None,
) -> Volume:
    """Rename, label or enlarge; joins the caller's transaction.

    Raises NotFound, InvalidRequest, Refusal version_conflict, invalid_transition, quota_exceeded,
    insufficient_funds.
    """
    volume = _locked(acting, volume_id, expected_version)
    if name is not None and not clean(name, limit=80):
        raise InvalidRequest({"name": ["give a name of 1 to 80 characters"]})
    changed: dict[str, Any] = {}
    if name is not None and clean(name, limit=80) != volume.name:
        volume.name = changed["name"] = clean(name, limit=80)
    if labels is not None and dict(labels) != volume.labels:
        volume.labels = changed["labels"] = dict(labels)
    if size_gib is not None:
        # Its cluster may have refused a size before: what it has there says whether it grows.
        (view,) = provisioner.volumes(ids=[volume.id])
        provisioner.resize_volume(volume_id=volume.id, size_gib=size_gib)
        if size_gib != view.size_gib:
            volume.size_gib = changed["size_gib"] = size_gib
    if changed:
        volume.version += 1
        volume.save(update_fields=[*changed, "version"])
        _audit(acting, volume, "volume.change", changed)
    if "size_gib" in changed:
        metering.begin(volume)
        quota.check(volume.organization)
    return volume


def remove(
    *,
    acting: Principal,
    volume_id: str,
    confirm_token: str | None = None,
    expected_version: int | None = None,
) -> Volume:
    """Delete with its data; joins the caller's transaction. Repeating it changes nothing.

    Raises NotFound, Refusal version_conflict, volume_in_use, data_loss_confirmation_required.
    """
    volume = _locked(acting, volume_id, expected_version)
    if volume.removed_at is not None:
        return volume
    at = now()
    (view,) = provisioner.volumes(ids=[volume.id])
    if view.rental_ref is None:  # in use is said before anybody confirms a loss
        confirm.require([volume], confirm_token, at=at)
    provisioner.delete_volumes(volume_ids=[volume.id])
    _removed(acting, volume, "volume.delete", at)
    return volume


def remove_for(rental_ids: Sequence[UUID], reason: str) -> list[Volume]:
    """Delete, with receipts, what ended rentals mounted and no other rental may still mount; joins
    the caller's transaction. Nobody is asked: its people were told the date."""
    ended = RentalVolume.objects.filter(rental__in=rental_ids).values("volume")
    needed = RentalVolume.objects.filter(rental__ended_at=None).exclude(rental__in=rental_ids)
    rows = Volume.objects.select_for_update(of=("self",)).filter(id__in=ended, removed_at=None)
    found = list(rows.exclude(id__in=needed.values("volume")).order_by("id"))
    if found:
        provisioner.delete_volumes(volume_ids=[volume.id for volume in found], reason=reason)
    for volume in found:
        _removed("platform", volume, f"volume.delete.{reason}", now())
    return found


def _removed(acting: Principal | str, volume: Volume, action: str, at: datetime) -> None:
    volume.removed_at = at
    volume.version += 1
    volume.save(update_fields=["removed_at", "version"])
    _audit(acting, volume, action, {"size_gib": volume.size_gib})


def confirmation(*, acting: Principal, volume_id: str) -> str:
    """The token for a page that shows what will be lost and asks; raises NotFound."""
    return confirm.issue([get_visible(Volume, acting, volume_id)], at=now())


def _locked(acting: Principal, volume_id: str, expected: int | None) -> Volume:
    volume = get_visible(Volume.objects.select_for_update(of=("self",)), acting, volume_id)
    if expected is not None and expected != volume.version:
        raise Refusal(
            "version_conflict",
            "The volume changed since you read it. Nothing was done. Read it again and decide.",
            version=volume.version,
        )
    return volume


def _audit(acting: Principal | str, volume: Volume, action: str, details: dict[str, Any]) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=volume.public_id,
        organization_ref=volume.organization_id,
        details=details,
    )
