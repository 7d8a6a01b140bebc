"""The real control plane registered with the product, and its loops run in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.db import transaction

from kernel import clock
from kernel.ids import new_id
from provisioner import facade
from provisioner.contracts import (
    AddressBinding,
    ClusterView,
    Fault,
    InstanceView,
    PlacementRequest,
    PodOrder,
)
from provisioner.instances import release
from provisioner.inventory import summary
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import instance_loop, node_loop, observe, orphans, preflight_loop

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
ORDER = PodOrder(image=IMAGE, command=("sleep", "infinity"), secret_env={"TOKEN": "hidden"})


def register(kube: Any, **more: Any) -> UUID:
    """A cluster as its provider would register it, with the binding that staff would give."""
    key = uuid4()
    url = more.get("api_url", kube.api_url)
    binding = AddressBinding(("127.0.0.0/8",), (urlsplit(url).port or 0,))
    given = {"api_url": url, "ca_pem": kube.ca_pem, "token": kube.token, "binding": binding}
    facade.check_address(api_url=url, binding=binding)
    with transaction.atomic():
        facade.register_cluster(
            cluster_id=key,
            name=kube.name,
            provider_ref=uuid4(),
            datacenter_ref=uuid4(),
            **{**given, **more},
        )
    return key


def look(*, at_all: bool = True) -> None:
    """One inventory, one full list and one preflight of every cluster, whatever is due."""
    for run in (node_loop.run, observe.run, preflight_loop.run):
        if at_all:
            ClusterLoop.objects.update(due_at=clock.now(), claim_token=None, claim_until=None)
            Cluster.objects.update(retry_at=None)
        run()
    summary.refresh()


def sweep() -> None:
    ClusterLoop.objects.update(due_at=clock.now())
    orphans.run()


def on_sale(kube: Any) -> ClusterView:
    """Registered, collected, listed: ready to rent from."""
    key = register(kube)
    look()
    return facade.clusters(ids=[key])[0]


def rent(
    cluster: ClusterView,
    accelerator: str = "nvidia-h100-80gb-sxm",
    gpus: int = 1,
    *,
    tenant: UUID | None = None,
    order: PodOrder = ORDER,
    groups: tuple[UUID, ...] = (),
) -> InstanceView:
    """``groups``: of all groups with the accelerator only these."""
    known = facade.groups(provider_ref=cluster.provider_ref, ids=groups or None)
    wanted = tuple(group.id for group in known if group.accelerator == accelerator)
    who = tenant or uuid4()
    plan = facade.plan(PlacementRequest(wanted, gpus, 1024, who))
    with transaction.atomic():
        return facade.reserve(
            plan=plan,
            instance_id=new_id(),
            rental_ref=new_id(),
            tenant_ref=who,
            order=order,
            gpus=gpus,
            disk_mib=1024,
        )


def end(view: InstanceView) -> None:
    with transaction.atomic():
        facade.request_end(
            rental_ref=view.rental_ref, reason="terminated_by_user", fault=Fault.NONE
        )


def now(view: InstanceView) -> InstanceView:
    found = facade.instance(rental_ref=view.rental_ref)
    assert found is not None
    return found


def work_until(
    condition: Callable[[], Any], what: str, *, seconds: float = 30.0, listing: bool = False
) -> Any:
    """Run the loops until ``condition()``; the first true value of it."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        instance_loop.run(seconds=0.2)
        if listing:
            look()
        release.recycle()
        time.sleep(0.05)
    return found


def reaches(view: InstanceView, state: str, **given: Any) -> InstanceView:
    work_until(lambda: now(view).state == state, f"{state}; it is {now(view)}", **given)
    return now(view)
