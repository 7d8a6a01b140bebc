"""Where a volume can be made, and where an order with volumes can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts.access import find
from marketplace.catalog.quote import rentable
from marketplace.models import DataCenter, Offer, Provider
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState, ClusterView, StorageDomain, VolumeView


@dataclass(frozen=True)
class Place:
    """The clusters and nodes an order is bound to by its data; empty: anywhere."""

    cluster_ids: tuple[UUID, ...] = ()
    node_ids: tuple[UUID, ...] = ()
    needs_storage: bool = False

    @property
    def is_bound(self) -> bool:
        return bool(self.cluster_ids) or self.needs_storage

    def among(self, offers: QuerySet[Offer]) -> QuerySet[Offer]:
        """Those of the offers where the data is, or where new data can be."""
        if self.cluster_ids:
            offers = offers.filter(group__cluster_id__in=self.cluster_ids)
        if self.needs_storage:
            offers = offers.exclude(group__storage_domain=StorageDomain.NONE)
        return offers

    def admits(self, offer: Offer) -> bool:
        """The same for one loaded offer."""
        here = not self.cluster_ids or offer.group.cluster_id in self.cluster_ids
        able = not self.needs_storage or offer.group.storage_domain != StorageDomain.NONE
        return here and able

    def refusal(self) -> Refusal:
        """What to say when the order fits elsewhere, but its data is here."""
        where = "in the data centre of your volumes" if self.cluster_ids else "with storage"
        if self.node_ids:
            where = "on the machine that holds your volumes"
        return Refusal(
            "no_capacity",
            f"No free cards {where} fit the order. Nothing was rented. Wait for cards there, or "
            "rent without these volumes.",
            relaxations=[],
            alternatives=[],
            next_free_estimate=None,
        )

    def shut(self) -> Refusal:
        """What to say when the order would fit here, but for its keys or ports."""
        where = "where your volumes are" if self.cluster_ids else "where there is storage"
        return Refusal(
            "no_capacity",
            f"The owner of the cards {where} has not set up a way in yet, so nobody could get in "
            'to the machine. Nothing was rented. Order without keys ("ssh": false) and without '
            "ports, or without these volumes.",
            relaxations=[],
            alternatives=[],
            next_free_estimate=None,
        )

    def taken(self) -> Refusal:
        """The same for a rental that is to be started again."""
        where = "on the machine" if self.node_ids else "in the cluster"
        return Refusal(
            "offer_taken",
            f"No such cards are free {where} that holds its volumes. Nothing was changed or "
            "charged. Send queue to wait for them, or rent elsewhere without these volumes.",
            relaxations=[],
            alternatives=[],
            next_free_estimate=None,
        )


def place_of(volumes: Sequence[VolumeView], *, needs_storage: bool = False) -> Place:
    """Where existing volumes can be mounted together; raises InvalidRequest when nowhere."""
    clusters = {volume.cluster_id for volume in volumes}
    nodes = {
        volume.node_id
        for volume in volumes
        if volume.domain == StorageDomain.NODE and volume.node_id is not None
    }
    if len(clusters) > 1:
        raise InvalidRequest({"volumes": ["they are in different data centres or clusters"]})
    if len(nodes) > 1:
        raise InvalidRequest({"volumes": ["they are on the disks of different machines"]})
    return Place(tuple(clusters), tuple(nodes), needs_storage)


def choose_cluster(
    *, datacenter_id: str | None, offer_id: str | None
) -> tuple[DataCenter, ClusterView]:
    """The cluster for a new volume: the offer's, or the data centre's first with storage.

    Raises NotFound, InvalidRequest.
    """
    if (datacenter_id is None) == (offer_id is None):
        raise InvalidRequest({"datacenter": ["give either datacenter or offer"]})
    if offer_id is not None:
        offer = rentable(offer_id)
        found = provisioner.clusters(ids=[offer.group.cluster_id])
        return offer.datacenter, _first(found, "offer")
    approved = DataCenter.objects.filter(provider__state=Provider.State.APPROVED)
    datacenter = find(approved, datacenter_id)
    mine = [
        cluster
        for cluster in provisioner.clusters(provider_ref=datacenter.provider_id)
        if cluster.datacenter_ref == datacenter.id
    ]
    return datacenter, _first(mine, "datacenter")


def _first(clusters: Sequence[ClusterView], field: str) -> ClusterView:
    able = [cluster for cluster in clusters if cluster.storage != StorageDomain.NONE]
    if not able:
        message = "there is no storage for volumes; see storage in GET /datacenters and /offers"
        raise InvalidRequest({field: [message]})
    ready = [cluster for cluster in able if cluster.state == ClusterState.READY]
    return (ready or able)[0]
