"""Many ready rentals, in the tables and in simulated clusters, in seconds instead of an hour.

One rental per cluster is started by the product, through its API and its loops. All others are
copies of its rows and of its pod and lease, with names, identities and places of their own, so that
a list, a decision and a renewal cost what they cost for the first. Not copied are postings: nothing
measured here reads them.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models

from billing.models import RentalMeter
from devstack.kube.sim import kinds
from kernel import clock
from kernel.ids import new_id, public
from marketplace.models import Rental
from marketplace.rentals import lease as leasing
from marketplace.rentals.follow import follow
from provisioner.instances.naming import pod_name_of
from provisioner.models import (
    Hold,
    Instance,
    Namespace,
    NodeShare,
    ReadyInterval,
    Slot,
)
from provisioner.reconcile import instance_loop, leases, observe
from tests.market import H100, USD, Renter, make_renter
from tests.sites import Site

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
CARDS = 8
# Until the first rental of each cluster runs; a machine that needs more is no place to measure.
_ATTEMPTS = 300
_BATCH = 1000

Row = TypeVar("Row", bound=models.Model)


@dataclasses.dataclass
class _Copies:
    """Rows to be stored together, in the order of their foreign keys."""

    slots: list[Slot] = dataclasses.field(default_factory=list)
    instances: list[Instance] = dataclasses.field(default_factory=list)
    holds: list[Hold] = dataclasses.field(default_factory=list)
    intervals: list[ReadyInterval] = dataclasses.field(default_factory=list)
    rentals: list[Rental] = dataclasses.field(default_factory=list)
    meters: list[RentalMeter] = dataclasses.field(default_factory=list)

    def store(self) -> None:
        for rows in vars(self).values():
            type(rows[0]).objects.bulk_create(rows, batch_size=_BATCH)


def fill(sites: list[Site], rentals: int, *, tenants: int) -> None:
    """``rentals`` ready ones spread evenly over ``sites`` and over a namespace per tenant."""
    renters = [make_renter(f"Tenant {n}", credit=10**6 * USD) for n in range(tenants)]
    _first_ones(sites, renters[0])
    share = -(-rentals // len(sites))
    for number, site in enumerate(sites):
        _crowd(site, renters, min(share, rentals - number * share) - 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as autovacuum does for tables that grew like this


def _first_ones(sites: list[Site], renter: Renter) -> None:
    for site in sites:
        body = {
            "requirement": {"accelerator": H100, "gpus": 1, "region": site.region},
            "image": IMAGE,
            "ssh": False,
            "no_limit": True,
        }
        status, answer = renter.call("POST", "/rentals", body)
        if status != 202:
            raise RuntimeError(f"the first rental of {site.name}: {status} {answer}")
    for _ in range(_ATTEMPTS):
        leasing.push()
        instance_loop.run(seconds=1.0)
        leases.run()
        observe.run()
        follow()
        running = Rental.objects.filter(state="running").count()
        if running == len(sites) and not _short_leases():
            return
    raise RuntimeError(f"not all first rentals run: {list(Rental.objects.values('state'))}")


def _short_leases() -> bool:
    """Whether a lease does not reach as far as it is paid for: copies would renew all at once."""
    soon = clock.now() + timedelta(hours=1)
    return Instance.objects.filter(lease_held_until__lt=soon).exists()


def _crowd(site: Site, renters: list[Renter], count: int) -> None:
    first = Instance.objects.select_related("share__node").get(cluster=site.id)
    spaces = _bind(site, renters)
    share: NodeShare | None = None
    copies = _Copies()
    originals = _Originals.of(first, site)
    for number in range(count):
        if share is None or number % CARDS == 0:
            share = _node(site, first.share, number // CARDS)
        renter = renters[number % len(renters)]
        originals.copy(copies, site, share, number % CARDS, renter.org, spaces[renter.org])
    if count:
        copies.store()


def _bind(site: Site, renters: list[Renter]) -> dict[UUID, Namespace]:
    """A namespace of the pool for each tenant; the first tenant has one."""
    bound = {
        row.tenant_ref: row for row in Namespace.objects.filter(cluster=site.id) if row.tenant_ref
    }
    free = iter(Namespace.objects.filter(cluster=site.id, tenant_ref=None).order_by("name"))
    for renter in renters:
        if renter.org not in bound:
            row = next(free)
            row.tenant_ref, row.bound_at = renter.org, clock.now()
            row.save()
            bound[renter.org] = row
    return {org: row for org, row in bound.items() if org is not None}


def _node(site: Site, pattern: NodeShare, number: int) -> NodeShare:
    name = f"{site.name}-crowd-{number:04d}"
    node = _copied(pattern.node, name=name, uid=new_id().hex)
    node.save(force_insert=True)
    share = _copied(pattern, node=node, slots_total=CARDS, slots_free=0)
    share.save(force_insert=True)
    return share


@dataclasses.dataclass(frozen=True)
class _Originals:
    """The first rental of a cluster, in every table and in the cluster."""

    instance: Instance
    hold: Hold
    interval: ReadyInterval
    rental: Rental
    meter: RentalMeter
    pod: dict[str, Any]
    lease: dict[str, Any]

    @classmethod
    def of(cls, instance: Instance, site: Site) -> _Originals:
        space, name = instance.namespace.name, instance.pod_name
        pod = site.plane.store.get(kinds.PODS, space, name)
        lease = site.plane.store.get(kinds.LEASES, space, name)
        if pod is None or lease is None:
            raise RuntimeError(f"{name} runs without its pod or its lease")
        return cls(
            instance,
            Hold.objects.get(instance=instance),
            ReadyInterval.objects.get(instance=instance),
            Rental.objects.get(pk=instance.rental_ref),
            RentalMeter.objects.get(pk=instance.rental_ref),
            pod.body,
            lease.body,
        )

    def copy(
        self,
        into: _Copies,
        site: Site,
        share: NodeShare,
        seat: int,
        org: UUID,
        space: Namespace,
    ) -> None:
        key, rental = new_id(), new_id()
        pod = self._in_cluster(site, self.pod, kinds.PODS, key, rental, space.name, share.node.name)
        lease = self._in_cluster(site, self.lease, kinds.LEASES, key, rental, space.name, "")
        slot = Slot(share=share, number=seat, state=Slot.State.HELD)
        # At rest renewals are spread over the half hour between two of them.
        due = clock_spread(self.instance.lease_due_at)
        instance = _copied(
            self.instance,
            id=key,
            rental_ref=rental,
            tenant_ref=org,
            share=share,
            namespace=space,
            pod_name=pod_name_of(key),
            pod_uid=pod["uid"],
            seen={**self.instance.seen, "version": int(pod["resourceVersion"])},
            lease_version=lease["resourceVersion"],
            lease_due_at=due,
            due_at=None,
        )
        into.slots.append(slot)
        into.instances.append(instance)
        into.holds.append(_copied(self.hold, slot=slot, instance=instance, rental_ref=rental))
        into.intervals.append(
            _copied(self.interval, instance=instance, rental_ref=rental, pod_uid=pod["uid"])
        )
        into.rentals.append(
            _copied(
                self.rental, id=rental, organization_id=org, instance_ref=key, idempotency_key=""
            )
        )
        into.meters.append(_copied(self.meter, rental_ref=rental, org_ref=org))

    def _in_cluster(
        self,
        site: Site,
        original: dict[str, Any],
        kind: kinds.Kind,
        instance: UUID,
        rental: UUID,
        namespace: str,
        node: str,
    ) -> dict[str, Any]:
        """Store a copy of an object; its metadata with identity and version."""
        body = copy.deepcopy(original)
        labels = {
            **body["metadata"]["labels"],
            "gpuyard.io/instance": public("instance", instance),
            "gpuyard.io/rental": public("rental", rental),
        }
        body["metadata"] |= {
            "name": pod_name_of(instance),
            "namespace": namespace,
            "labels": labels,
        }
        if node:
            body["spec"]["nodeName"] = node
        with site.plane.store.lock:
            return site.plane.store.create(kind, body).metadata


def clock_spread(due: Any) -> Any:
    """A moment of the half hour after ``due``."""
    if due is None:
        raise RuntimeError("the first rental has no lease that will be renewed")
    return due + timedelta(seconds=random.uniform(0, 1800))


def _copied(row: Row, **changes: Any) -> Row:
    """Another row with the same values but a key of its own."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = type(row)(**values)
    made.pk = changes.pop(row._meta.pk.name, None) or new_id()
    for name, value in changes.items():
        setattr(made, name, value)
    return made
