"""A small market for tests: owners with cards on sale, renters with credit, and an API client.

Supply is written as rows (nodes, shares, slots) the way inventory leaves them; offers are derived
and priced by the product. Renters get their credit as a settled top-up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.test import Client

from billing import facade as billing
from billing.contracts import PaymentState
from billing.models import TopUp
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.accounts.access import Principal, principal_of
from marketplace.accounts.keys import create_key
from marketplace.catalog import publish
from marketplace.models import DataCenter, Membership, Offer, Organization, Provider, User
from provisioner.instances import entry
from provisioner.inventory.summary import refresh
from provisioner.models import (
    Cluster,
    DeviceGroup,
    GroupChange,
    Namespace,
    Node,
    NodeShare,
    Observation,
    Slot,
)

USD = 1_000_000
SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEs5QS9ZDjnLsgvfl74wIq/0Ev5OJOlPw2EC"
    "3X3T/+30 test@example.com"
)
H100 = "nvidia-h100-80gb-sxm"
PART = f"{H100}-mig-1g.10gb"
_SHAPES: dict[str, dict[str, Any]] = {
    H100: {"vendor": "nvidia", "memory_mib": 81920, "cuda_max": "12.9", "driver": "575.57"},
    PART: {"vendor": "nvidia", "memory_mib": 9856, "cuda_max": "12.9", "driver": "575.57"},
    "nvidia-rtx-4090": {"vendor": "nvidia", "memory_mib": 24576, "cuda_max": "12.4"},
    "ascend-910b": {"vendor": "huawei", "memory_mib": 65536},
}


@dataclass
class Renter:
    """Somebody with a key; also a client of the API."""

    principal: Principal
    secret: str

    @property
    def org(self) -> UUID:
        return self.principal.org.id

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """(status, decoded body) of one request under /api/v1."""
        status, raw = self.raw(method, path, body, key=key, **headers)
        return status, json.loads(raw) if raw else None

    def raw(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """The same with the body's bytes. ``body`` may be bytes; a POST gets a key unless given."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self.secret}"
        if method == "POST":
            sent["Idempotency-Key"] = str(new_id()) if key is None else key
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {})
        response = Client(raise_request_exception=False).generic(
            method,
            f"/api/v1{path}",
            data="" if method == "GET" else data,
            content_type="application/json",
            headers=sent,
        )
        return response.status_code, response.content


def public_get(path: str) -> tuple[int, Any]:
    """GET without credentials."""
    response = Client(raise_request_exception=False).get(f"/api/v1{path}")
    return response.status_code, response.json()


def quarantined(supply: Supply) -> str:
    """Ids of its cluster and of a node there that is not sold, as `Operation.at` takes them."""
    share = NodeShare.objects.filter(node__cluster=supply.cluster).first()
    assert share is not None
    found = {"text": "Cards of another model were found.", "evidence": {}}
    NodeShare.objects.filter(pk=share.pk).update(quarantined_at=now(), quarantine=found)
    return f"{public('cluster', supply.cluster.pk)} {public('node', share.node_id)}"


def make_renter(name: str = "Acme", credit: int = 1000 * USD, verified: bool = True) -> Renter:
    """An organization with an owner, a key with every scope, and credit."""
    email = f"{new_id().hex}@example.com"
    user = User.objects.create_user(email, email_verified_at=now() if verified else None)
    organization = Organization.objects.create(
        name=name, quota_gpus=10_000, spend_limit_micro_h=10**12, spend_limit_fixed=True
    )
    Membership.objects.create(organization=organization, user=user, role=Membership.Role.OWNER)
    principal = principal_of(user)
    with transaction.atomic():
        billing.open_tenant(org_ref=organization.id, email=email, name=name)
        made = create_key(
            acting=principal, name="test", scopes=sorted(principal.scopes), expires_at=None
        )
    if credit:
        add_credit(organization.id, credit)
    return Renter(principal, made.secret)


def add_credit(org: UUID, micro: int) -> None:
    """Money as it comes from Stripe: the succeeded payment of a top-up."""
    row = TopUp.objects.create(
        customer_id=org, amount_micro=micro, currency="USD", return_url="https://example.com/"
    )
    paid = PaymentFact(
        stripe_id=f"pi_{row.id.hex}",
        state=PaymentState.SUCCEEDED,
        amount_minor=micro // 10_000,
        currency="USD",
        fee_minor=None,
        failure=None,
    )
    assert topup_payment(row.id, paid)


@dataclass
class Supply:
    """An owner with one cluster of one kind of card; ``offer`` is None while it is a draft."""

    owner: Renter
    provider: Provider
    datacenter: DataCenter
    cluster: Cluster
    group: DeviceGroup

    @property
    def offer(self) -> Offer:
        return Offer.objects.get(group_id=self.group.id)


def make_supply(
    *nodes: int,
    accelerator: str = H100,
    price: int | None = 2 * USD,
    interruptible: int | None = None,
    ownership: str = "partner",
    region: str = "eu-central",
    country: str = "DE",
    owner: Renter | None = None,
    namespaces: int = 100,
    min_gpus: int = 1,
    storage: str = "none",
    relay: bool = False,
    **shape: Any,
) -> Supply:
    """A ready cluster with nodes of that many free cards each, on sale at ``price`` per card.

    relay: it has one, so that renters can get in where there is a gateway."""
    owner = owner or make_renter("Owner", credit=0)
    provider, _ = Provider.objects.get_or_create(
        organization=owner.principal.org,
        defaults={
            "state": Provider.State.APPROVED,
            "ownership": ownership,
            "contact_email": "owner@example.com",
        },
    )
    datacenter = DataCenter.objects.create(
        provider=provider, name=f"dc-{new_id().hex[-8:]}", region=region, country=country
    )
    cluster = _cluster(provider, datacenter, namespaces, storage)
    if relay:
        give_relay(cluster)
    group = _group(cluster, accelerator, shape)
    for count in nodes:
        add_node(group, count)
    refresh()
    group.refresh_from_db()
    supply = Supply(owner, provider, datacenter, cluster, group)
    publish.sync_offers()
    if price is not None:
        with transaction.atomic():
            publish.set_offer(
                acting=owner.principal,
                offer_id=supply.offer.public_id,
                price_micro_h=price,
                interruptible_price_micro_h=interruptible,
                min_gpus=min_gpus,
                state="active",
            )
    return supply


def _cluster(provider: Provider, datacenter: DataCenter, namespaces: int, storage: str) -> Cluster:
    present = now()
    cluster = Cluster.objects.create(
        name=f"c-{new_id().hex[-8:]}",
        provider_ref=provider.id,
        datacenter_ref=datacenter.id,
        api_url="https://cluster.example.com:6443",
        ca_pem="",
        token_sealed=b"",
        state="ready",
        reason="ready",
        state_since=present,
        created_at=present,
        last_positive_at=present,
        storage_class="" if storage == "none" else f"{storage}-class",
        storage_domain=storage,
        storage_reclaim="Delete",
        storage_waits=storage == "node",
        storage_expands=True,
    )
    Namespace.objects.bulk_create(
        Namespace(cluster=cluster, name=f"gy-{number:03d}") for number in range(namespaces)
    )
    return cluster


def give_relay(cluster: Cluster) -> None:
    """A relay of the cluster has connected, as the gateway writes it down."""
    entry.unproven(clusters=[cluster.pk])


def _group(cluster: Cluster, accelerator: str, shape: dict[str, Any]) -> DeviceGroup:
    present = now()
    figures = {
        "vcpus_milli_per_gpu": 8000,
        "ram_mib_per_gpu": 65536,
        "disk_mib_per_gpu": 204800,
        **_SHAPES[accelerator],
        **shape,
    }
    if figures.get("cuda_max"):
        major, minor = figures["cuda_max"].split(".")
        figures["cuda_max_x100"] = int(major) * 100 + int(minor) * 10
    return DeviceGroup.objects.create(
        cluster=cluster,
        provider_ref=cluster.provider_ref,
        datacenter_ref=cluster.datacenter_ref,
        accelerator=accelerator,
        verified=True,
        created_at=present,
        updated_at=present,
        **figures,
    )


def add_node(group: DeviceGroup, cards: int) -> NodeShare:
    """A node of the group with that many free cards."""
    node = Node.objects.create(
        cluster=group.cluster,
        name=f"node-{new_id().hex[-8:]}",
        uid=new_id().hex,
        ready=True,
        sellable=True,
        listed_at=now(),
    )
    share = NodeShare.objects.create(
        node=node,
        group=group,
        resource_name="nvidia.com/gpu",
        slots_total=cards,
        slots_free=cards,
    )
    Slot.objects.bulk_create(Slot(share=share, number=number) for number in range(cards))
    GroupChange.objects.create(group=group)
    return share


def observe(cluster: Cluster) -> None:
    """A positive observation of the cluster now: a full list that found everything well."""
    present = now()
    Cluster.objects.filter(pk=cluster.pk).update(last_positive_at=present)
    Observation.objects.create(cluster=cluster, at=present, kind="list", pods=1, took_ms=1)


def order(offer: Offer, gpus: int = 1, **changes: Any) -> dict[str, Any]:
    """The body of a valid POST /rentals by requirement that only ``offer`` fits by its region."""
    body: dict[str, Any] = {
        "requirement": {
            "accelerator": offer.group.accelerator,
            "gpus": gpus,
            "region": offer.region,
        },
        "template": "ubuntu",
        "ssh_keys": [SSH_KEY],
        "max_hours": 4,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}
