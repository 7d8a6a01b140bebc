"""Simulated clusters registered by a provider and on sale, reached over HTTP and TLS as real ones.

For campaigns that run the product's own loops as processes against clusters that misbehave. What a
site offers comes from the product's inventory, not from rows written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from django.db import transaction

from devstack.kube.sim import kinds
from devstack.kube.sim.stack import SimPlane, SimStack
from devstack.kube.sim.store import Stored
from kernel.ids import new_id
from marketplace.catalog import publish
from marketplace.models import DataCenter, Offer, Provider
from provisioner import facade
from provisioner.contracts import AddressBinding
from provisioner.inventory.summary import refresh
from provisioner.reconcile import node_loop, observe, preflight_loop
from tests.market import USD, Renter

LABEL = "gpuyard.io/instance"


@dataclass(frozen=True)
class Site:
    """One simulated cluster as the platform knows it; ``region`` finds its offers alone."""

    name: str
    plane: SimPlane
    id: UUID

    @property
    def region(self) -> str:
        return self.name

    def pods(self) -> list[Stored]:
        """Our pods in its store, read past HTTP and so past every ordered fault."""
        with self.plane.store.lock:
            pods = self.plane.store.list(kinds.PODS)
        return [pod for pod in pods if LABEL in pod.metadata.get("labels", {})]

    def leases(self) -> list[str]:
        """Names of the leases of pods: all that are not the reaper's heartbeat."""
        with self.plane.store.lock:
            leases = self.plane.store.list(kinds.LEASES)
        return [lease.name for lease in leases if LABEL in lease.metadata.get("labels", {})]


def on_sale(stack: SimStack, owner: Renter, *, price: int = USD) -> list[Site]:
    """Every cluster of ``stack`` registered, collected, listed and sold at ``price`` per card."""
    provider = Provider.objects.create(
        organization=owner.principal.org,
        state=Provider.State.APPROVED,
        ownership="partner",
        contact_email="owner@example.com",
    )
    sites = [_register(stack, name, provider) for name in stack.clusters]
    node_loop.run()
    observe.run()
    preflight_loop.run()
    refresh()
    publish.sync_offers()
    for offer in Offer.objects.filter(provider=provider):
        with transaction.atomic():
            publish.set_offer(
                acting=owner.principal,
                offer_id=offer.public_id,
                price_micro_h=price,
                state="active",
            )
    refresh()
    return sites


def _register(stack: SimStack, name: str, provider: Provider) -> Site:
    kube, key = stack.clusters[name], new_id()
    place = DataCenter.objects.create(provider=provider, name=name, region=name, country="DE")
    with transaction.atomic():
        facade.register_cluster(
            cluster_id=key,
            name=name,
            provider_ref=provider.id,
            datacenter_ref=place.id,
            api_url=kube.api_url,
            ca_pem=kube.ca_pem,
            token=kube.token,
            binding=AddressBinding(("127.0.0.0/8",), (urlsplit(kube.api_url).port or 0,)),
        )
    return Site(name, stack.planes[name], key)


def all_of(sites: list[Site], read: Callable[[Site], list[Stored]] = Site.pods) -> list[Stored]:
    """What ``read`` finds in all sites together."""
    return [found for site in sites for found in read(site)]
