"""How cards come on sale: a draft offer per homogeneous group, priced and opened by its owner.

A price change touches new quotes only: quotes and rentals carry the price they were made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.accounts import audit, letters
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.catalog import availability, opening, tiers
from marketplace.catalog.drift import NO_PRICE, why_draft
from marketplace.catalog.needs import MIB_PER_GIB, whole_gib
from marketplace.catalog.registry import by_slug
from marketplace.catalog.search import (
    amount,
    interruptible_price,
    is_open,
    reliability,
    with_stock,
)
from marketplace.catalog.stock import has_way_in
from marketplace.models import DataCenter, Offer, PriceVersion, Provider
from provisioner import facade as provisioner
from provisioner.contracts import GroupView
from provisioner.facade import supply
from provisioner.facade.homogeneity import fingerprint

# Above this a price per GPU-hour is a slip of the decimal point.
MAX_PRICE_MICRO_H: Final = 1_000_000_000
# The same for a GiB and month: a thousand times what fast disks cost.
MAX_DISK_PRICE_MICRO: Final = 100_000_000
# Wishes of the owner. An ended offer stays ended: its group would get a new one if it came back.
_MOVES: Final[dict[str, frozenset[str]]] = {
    Offer.State.DRAFT: frozenset({Offer.State.ACTIVE, Offer.State.ENDED}),
    Offer.State.ACTIVE: frozenset({Offer.State.PAUSED, Offer.State.ENDED}),
    Offer.State.PAUSED: frozenset({Offer.State.ACTIVE, Offer.State.ENDED}),
    Offer.State.ENDED: frozenset(),
}


def sync_offers() -> int:
    """A draft for every group that has no offer yet; how many were made. Safe to repeat."""
    groups = provisioner.groups()
    offers = Offer.objects.filter(group_id__in=[group.id for group in groups])
    known = {offer.group_id: offer.public_id for offer in offers.only("id", "group_id")}
    fresh = [group for group in groups if group.id not in known]
    places = DataCenter.objects.select_related("provider").in_bulk(
        {group.datacenter_ref for group in fresh}
    )
    drafts = [
        _draft(group, places[group.datacenter_ref], why_draft(group, groups, known))
        for group in fresh
        if group.datacenter_ref in places
    ]
    with transaction.atomic():
        Offer.objects.bulk_create(drafts, ignore_conflicts=True)
        _tell_of_drift(drafts)
    _set_tiers()
    return len(drafts)


def _tell_of_drift(drafts: Sequence[Offer]) -> None:
    """Cards that were on sale until a label changed wait for a price: their owner should know."""
    drifted = [offer for offer in drafts if offer.reason != NO_PRICE]
    at = letters.moment(now()) if drifted else ""
    for offer in drifted:
        letters.tell(
            offer.provider.organization_id,
            "offer.drifted",
            cause=f"group:{offer.group_id}",
            facts={"name": offer.public_id, "text": offer.reason, "at": at, "path": "/provider"},
        )


def _set_tiers() -> None:
    """The offers of clusters on probation are new, and those of others not any more."""
    unproven = supply.on_probation()
    new = Q(group__cluster_id__in=unproven)
    Offer.objects.filter(new, tier=tiers.STANDARD).update(tier=tiers.NEW)
    Offer.objects.filter(~new, tier=tiers.NEW).update(tier=tiers.STANDARD)


def _draft(group: GroupView, place: DataCenter, reason: str) -> Offer:
    return Offer(
        provider=place.provider,
        datacenter=place,
        group_id=group.id,
        ownership=place.provider.ownership,
        region=place.region,
        country=place.country,
        reason=reason,
    )


def list_offers(acting: Principal) -> QuerySet[Offer]:
    """The acting owner's offers, drafts included, loaded for :func:`describe_owned`."""
    return with_stock(visible(Offer, acting))


def set_offer(
    *,
    acting: Principal,
    offer_id: str,
    price_micro_h: int | None = None,
    interruptible_price_micro_h: int | None = None,
    disk_price_micro_gib_month: int | None = None,
    min_gpus: int | None = None,
    state: str | None = None,
    times: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    expected_version: int | None = None,
) -> Offer:
    """Prices, least order, state and times of an own offer; joins the caller's transaction. None
    leaves as it is; an interruptible price of 0 withdraws that use from new quotes. The disk price
    is the data centre's: it holds for all volumes that are made there from now on. times:
    ``windows`` and ``ends_at``, each where given; they touch new quotes only. network: ``egress``
    and ``bandwidth_mbps``, likewise; for machines that start from now on.

    Raises NotFound, InvalidRequest (price_per_gpu_hour, interruptible_price_per_gpu_hour,
    disk_price, min_gpus, state, windows, ends_at, egress, bandwidth_mbps), Refusal
    invalid_transition, version_conflict.
    """
    owned = with_stock(visible(Offer, acting))
    offer = get_visible(owned.select_for_update(of=("self",)), acting, offer_id)
    if expected_version is not None and expected_version != offer.version:
        raise Refusal(
            "version_conflict",
            "Somebody changed this offer since you read it. Read it again and repeat your change.",
            version=offer.version,
        )
    price, interruptible = _wished(offer, price_micro_h, interruptible_price_micro_h)
    _check(offer, price_micro_h, min_gpus, state)
    _check_interruptible(price, interruptible)
    if disk_price_micro_gib_month is not None:
        _reprice_disks(acting, offer.datacenter, disk_price_micro_gib_month)
    if (price, interruptible) != (offer.price_micro_h, offer.interruptible_price_micro_h):
        _reprice(acting, offer, price, interruptible)
    if min_gpus is not None:
        offer.min_gpus = min_gpus
    if times:
        _set_times(offer, times)
    if network:
        _set_network(offer, network)
    if state is not None:
        _move(offer, state)
    offer.version += 1
    prices = ("price_micro_h", "interruptible_price_micro_h")
    kept = ("windows", "ends_at", "opens_at", "closes_at")
    offer.save(update_fields=[*prices, *kept, "min_gpus", "state", "reason", "version"])
    audit.record(
        acting=acting,
        action="offer.set",
        object=offer.public_id,
        organization_ref=offer.provider.organization_id,
        details={
            "price_per_gpu_hour": format_micro(offer.price_micro_h),
            "interruptible_price_per_gpu_hour": interruptible_price(offer),
            "min_gpus": offer.min_gpus,
            "state": str(offer.state),
            "windows": offer.windows,
            "ends_at": rfc3339(offer.ends_at),
            "egress": offer.group.egress,
            "bandwidth_mbps": offer.group.bandwidth_mbps,
        },
    )
    return offer


def set_disk_price(*, acting: Principal, datacenter_id: str, micro_gib_month: int) -> DataCenter:
    """What volumes made in an own data centre from now on cost; those that are there keep theirs.
    Joins the caller's transaction. NotFound, InvalidRequest (disk_price)."""
    places = visible(DataCenter, acting).select_for_update(of=("self",))
    place = get_visible(places, acting, datacenter_id)
    _reprice_disks(acting, place, micro_gib_month)
    return place


def _set_times(offer: Offer, times: Mapping[str, Any]) -> None:
    if "windows" in times:
        offer.windows = availability.kept(availability.read(times["windows"]))
    if "ends_at" in times:
        if times["ends_at"] is not None and times["ends_at"] <= now():
            raise InvalidRequest({"ends_at": ["a time to come, or null for no end"]})
        offer.ends_at = times["ends_at"]
    opening.renew(offer)


def _set_network(offer: Offer, given: Mapping[str, Any]) -> None:
    group = offer.group
    egress = given.get("egress", group.egress)
    mbps = given.get("bandwidth_mbps", group.bandwidth_mbps)
    supply.set_network(group_id=group.id, egress=egress, bandwidth_mbps=mbps)
    group.egress, group.bandwidth_mbps = egress, mbps


def _check(offer: Offer, price: int | None, min_gpus: int | None, state: str | None) -> None:
    errors: dict[str, list[str]] = {}
    if price is not None and not 0 < price <= MAX_PRICE_MICRO_H:
        limit = format_micro(MAX_PRICE_MICRO_H)
        errors["price_per_gpu_hour"] = [f"more than 0 and at most {limit} {CURRENCY}"]
    if min_gpus is not None and not 1 <= min_gpus <= max(1, offer.group.slots_total):
        errors["min_gpus"] = [f"from 1 to {max(1, offer.group.slots_total)}, the cards there are"]
    if state is not None and state not in Offer.State.values:
        errors["state"] = [f"one of {', '.join(Offer.State.values)}"]
    if state == Offer.State.ACTIVE and not (price or offer.price_micro_h):
        errors["price_per_gpu_hour"] = ["an offer needs a price before it goes on sale"]
    if errors:
        raise InvalidRequest(errors)


def _wished(offer: Offer, price: int | None, interruptible: int | None) -> tuple[int, int | None]:
    """Both prices as they shall be from now on."""
    kept = offer.interruptible_price_micro_h if interruptible is None else interruptible or None
    return offer.price_micro_h if price is None else price, kept


def _check_interruptible(price: int, interruptible: int | None) -> None:
    """Cards that may be taken back are never dearer than those that stay."""
    if interruptible is not None and not 0 < interruptible <= price:
        limit = f"more than 0 and at most the price per GPU-hour, {format_micro(price)} {CURRENCY}"
        raise InvalidRequest({"interruptible_price_per_gpu_hour": [limit]})


def _reprice(
    acting: Principal, offer: Offer, price_micro_h: int, interruptible: int | None
) -> None:
    last = PriceVersion.objects.filter(offer=offer).order_by("-number").first()
    PriceVersion.objects.create(
        offer=offer,
        number=last.number + 1 if last else 1,
        price_micro_h=price_micro_h,
        interruptible_price_micro_h=interruptible,
        actor=acting.actor,
    )
    offer.price_micro_h, offer.interruptible_price_micro_h = price_micro_h, interruptible


def _reprice_disks(acting: Principal, place: DataCenter, micro_gib_month: int) -> None:
    if not 0 <= micro_gib_month <= MAX_DISK_PRICE_MICRO:
        limit = format_micro(MAX_DISK_PRICE_MICRO)
        raise InvalidRequest({"disk_price": [f"from 0 to {limit} {CURRENCY} per GiB and month"]})
    old = place.disk_price_micro_gib_month
    if micro_gib_month == old:
        return
    DataCenter.objects.filter(id=place.id).update(disk_price_micro_gib_month=micro_gib_month)
    place.disk_price_micro_gib_month = micro_gib_month
    audit.record(
        acting=acting,
        action="datacenter.disk_price",
        object=place.public_id,
        organization_ref=acting.org.id,
        details={
            "from": format_micro(old),
            "to": format_micro(micro_gib_month),
            "for_volumes_made_from": rfc3339(now()),
        },
    )


def _move(offer: Offer, state: str) -> None:
    if state == offer.state:
        return
    if state not in _MOVES[offer.state]:
        raise Refusal(
            "invalid_transition",
            f"An offer that is {offer.state} cannot become {state}.",
            state=str(offer.state),
            actions=sorted(_MOVES[offer.state]),
        )
    if state == Offer.State.ACTIVE and offer.provider.state != Provider.State.APPROVED:
        raise Refusal(
            "invalid_transition",
            "Offers go on sale once staff have approved the provider. The offer is unchanged.",
            state=str(offer.state),
            actions=[],
        )
    offer.state = state
    offer.reason = ""


def describe_owned(offer: Offer) -> dict[str, Any]:
    """A loaded offer as its owner sees it."""
    group, card = offer.group, by_slug().get(offer.group.accelerator)
    return {
        "id": offer.public_id,
        "accelerator": group.accelerator,
        "vendor": group.vendor,
        "memory_gib": whole_gib(group.memory_mib),
        "driver": group.driver or None,
        "cuda_max": group.cuda_max or None,
        "sharing_mode": group.sharing_mode,
        "partition": card.partition if card else None,
        "interconnect": card.interconnect if card else None,
        "fingerprint": fingerprint(group),
        "verified": group.verified,
        "ssh": has_way_in(offer),
        "cluster": public("cluster", group.cluster_id),
        "datacenter": offer.datacenter.public_id,
        "region": offer.region,
        "country": offer.country,
        "ownership": offer.ownership,
        "gpus_total": group.slots_total,
        "gpus_available": group.slots_free,
        "largest_block": group.largest_block,
        "vcpus_per_gpu": amount(group.vcpus_milli_per_gpu, 1000),
        "ram_gib_per_gpu": amount(group.ram_mib_per_gpu, MIB_PER_GIB),
        "disk_gib_per_gpu": amount(group.disk_mib_per_gpu, MIB_PER_GIB),
        "price_per_gpu_hour": format_micro(offer.price_micro_h) if offer.price_micro_h else None,
        "interruptible_price_per_gpu_hour": interruptible_price(offer),
        "disk_price": format_micro(offer.datacenter.disk_price_micro_gib_month),
        "currency": CURRENCY,
        "min_gpus": offer.min_gpus,
        "windows": offer.windows,
        "ends_at": rfc3339(offer.ends_at),
        "egress": group.egress,
        "bandwidth_mbps": group.bandwidth_mbps,
        "opens_at": rfc3339(offer.opens_at),
        "closes_at": rfc3339(offer.closes_at),
        "state": offer.state,
        "reason": offer.reason or _why_unlisted(offer),
        "actions": sorted(_MOVES[offer.state]),
        "listed": _is_listed(offer),
        "reliability": reliability(offer),
        "created_at": rfc3339(offer.created_at),
        "version": offer.version,
    }


def _is_listed(offer: Offer) -> bool:
    return bool(offer.group.listed_ok) and offer.state == Offer.State.ACTIVE and is_open(offer)


def _why_unlisted(offer: Offer) -> str | None:
    if offer.state != Offer.State.ACTIVE:
        return None
    if not offer.group.slots_total:
        return "No node has such cards now: labels say something else, or the nodes are gone."
    if _is_listed(offer):
        return None
    if offer.group.listed_ok:
        return _why_closed(offer)
    return "The cluster takes no new rentals now: see its state and its preflight."


def _why_closed(offer: Offer) -> str:
    at: datetime = getattr(offer, "asked_at", None) or now()
    if offer.ends_at is not None and offer.ends_at <= at + availability.LEAST:
        return "Its end date has come: name a later one, or none, to let it again."
    if offer.opens_at is not None and offer.opens_at > at:
        return f"It is for rent again from {rfc3339(offer.opens_at)}: see its windows, maintenance."
    return "Its time is nearly over, or its cluster is taken down: see its windows, maintenance."


def offer_of_group(group_id: UUID) -> Offer:
    """The loaded offer of a group that a reservation chose; it exists, or it was no candidate."""
    return Offer.objects.select_related("group", "datacenter", "provider").get(group_id=group_id)
