"""Lives of a rental's machines under workers that are killed or stopped: steps, and what must hold.

A dead worker's claim lasts twenty seconds; tests shorten that wait by ending the claim in the
table, which is what time would do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction

from devstack.kube.witness import Sighting, Witness
from kernel import clock
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.contracts import ClusterView, Fault, InstanceView, PlacementRequest
from provisioner.models import Hold, Instance, InstanceEvent, ReadyInterval, Slot
from tests.live.pods import find, until
from tests.live.provider import ORDER, end, now, on_sale, reaches, rent

ROOT = Path(__file__).resolve().parents[2]
# A start makes these, an end takes them away, each in this order. A pod that goes is asked for
# again until it is not there: then its deletion is refused, which is the last one's answer.
START = ("POST secrets", "POST leases", "POST pods")
END = ("DELETE pods", "DELETE pods 2", "DELETE leases", "DELETE secrets")


def worker(moment: str, effect: str, number: str, database_url: str) -> subprocess.Popen[bytes]:
    """A worker process that sends itself the signal ``number`` there (instance_worker.py)."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.instance_worker", moment, effect, number],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def killed(moment: str, effect: str, database_url: str) -> None:
    """Let a worker work until it dies by kill -9 at that moment; its output is shown if not."""
    process = worker(moment, effect, "SIGKILL", database_url)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, f"{moment} {effect}: {output.decode()[-2000:]}"


def expire_claims() -> None:
    """What twenty seconds would do: whoever comes next may take over."""
    past = clock.now() - timedelta(seconds=1)
    Instance.objects.exclude(claim_token=None).update(claim_until=past)


@dataclass
class Life:
    """One rental on one real cluster, and an independent watch of its pods."""

    kube: Any
    cluster: ClusterView
    view: InstanceView
    witness: Witness

    @classmethod
    def begin(cls, kube: Any) -> Life:
        witness = Witness(Path(kube.admin_kubeconfig)).start()
        cluster = on_sale(kube)
        return cls(kube, cluster, rent(cluster), witness)

    # --- what a renter may ask for, or what happens to him

    def end(self) -> None:
        end(self.view)

    def restart(self) -> None:
        with transaction.atomic():
            made = facade.request_restart(
                rental_ref=self.view.rental_ref, reason="restarted_by_user", fault=Fault.NONE
            )
        assert made is not None, "nothing runs that could be restarted"

    def start_again(self) -> None:
        """Another machine for the same rental, as a stopped or failed one gets it."""
        assert now(self.view).state == "gone", "never before the last one's absence was observed"
        groups = facade.groups(provider_ref=self.cluster.provider_ref)
        wanted = tuple(g.id for g in groups if g.accelerator == "nvidia-h100-80gb-sxm")
        plan = facade.plan(PlacementRequest(wanted, 1, 1024, self.view.tenant_ref))
        with transaction.atomic():
            facade.reserve(
                plan=plan,
                instance_id=new_id(),
                rental_ref=self.view.rental_ref,
                tenant_ref=self.view.tenant_ref,
                order=ORDER,
                gpus=1,
                disk_mib=1024,
            )

    def lose_pod(self) -> None:
        """Its host takes the pod away: nobody asked for that."""
        api, view = self.kube.admin(), now(self.view)
        api.delete(
            f"/api/v1/namespaces/{view.namespace}/pods/{view.pod_name}", {"gracePeriodSeconds": 0}
        )
        until("the pod is lost", lambda: find(api, view.namespace, view.pod_name) is None)

    # --- what must hold

    def converges(self, state: str, **given: Any) -> InstanceView:
        """The next worker brings the rental's present machine there, and everything holds."""
        view = reaches(self.view, state, **given)
        if state == "ready":
            self.check_serving(view)
        else:
            self.check_nothing_left()
        self.check_history()
        return view

    def ends(self) -> None:
        """End it undisturbed; leaves the cluster as it was found."""
        if now(self.view).state != "gone":
            end(self.view)
            reaches(self.view, "gone")
        self.check_nothing_left()
        self.check_history()
        self.witness.stop()

    def pods(self) -> list[str]:
        """UIDs of the rental's pods that the API server has now."""
        selector = f"gpuyard.io/rental={public('rental', self.view.rental_ref)}"
        found = self.kube.admin().get("/api/v1/pods", labelSelector=selector)["items"]
        return [pod["metadata"]["uid"] for pod in found]

    def sightings(self) -> list[Sighting]:
        """All pods that the rental ever had, as the watch saw them, oldest first."""
        label = public("rental", self.view.rental_ref)
        found = self.witness.for_label("gpuyard.io/rental", label)
        return sorted(found, key=lambda pod: pod.appeared_at)

    def check_serving(self, view: InstanceView) -> None:
        """One pod, its own secret and lease beside it, as many holds as cards, one meter."""
        assert self.pods() == [view.pod_uid]
        assert self._objects("leases") == [view.pod_name]
        assert self._objects("secrets") == [f"{view.pod_name}-env"]
        open_holds = Hold.objects.filter(rental_ref=view.rental_ref, to_ts=None)
        assert [hold.instance_id for hold in open_holds] == [view.id]
        held = Slot.objects.filter(state="held").values_list("id", flat=True)
        assert list(held) == [hold.slot_id for hold in open_holds]
        running = ReadyInterval.objects.filter(rental_ref=view.rental_ref, closed_at=None)
        assert [interval.instance_id for interval in running] == [view.id]

    def check_nothing_in_the_cluster(self) -> None:
        """No pod, no secret, no lease."""
        assert self.pods() == []
        assert self._objects("leases") == self._objects("secrets") == []

    def check_nothing_left(self) -> None:
        """Nothing there, no hold, no running meter."""
        rental = self.view.rental_ref
        self.check_nothing_in_the_cluster()
        assert not Hold.objects.filter(rental_ref=rental, to_ts=None).exists()
        assert not Slot.objects.filter(state="held").exists()
        assert not ReadyInterval.objects.filter(rental_ref=rental, closed_at=None).exists()

    def check_history(self) -> None:
        """Events without gaps, holds and meters one after the other, never two pods at a time."""
        for instance in facade.instances(rental_ref=self.view.rental_ref):
            events = InstanceEvent.objects.filter(instance_id=instance.id).order_by("seq")
            seqs = list(events.values_list("seq", flat=True))
            assert seqs == list(range(1, len(seqs) + 1))
            assert Instance.objects.get(pk=instance.id).event_seq == len(seqs)
        holds = Hold.objects.filter(rental_ref=self.view.rental_ref).order_by("from_ts", "to_ts")
        _one_after_the_other(holds.values_list("from_ts", "to_ts"))
        meters = ReadyInterval.objects.filter(rental_ref=self.view.rental_ref)
        _one_after_the_other(meters.order_by("opened_at").values_list("opened_at", "closed_at"))
        _one_after_the_other((pod.appeared_at, pod.gone_at) for pod in self.sightings())

    def _objects(self, kind: str) -> list[str]:
        """Names of our objects of that kind that are left in the rental's namespace."""
        group = "/apis/coordination.k8s.io/v1" if kind == "leases" else "/api/v1"
        path = f"{group}/namespaces/{self.view.namespace}/{kind}"
        names = [item["metadata"]["name"] for item in self.kube.admin().get(path)["items"]]
        return [name for name in names if name.startswith("gy-")]


def _one_after_the_other(spans: Iterable[tuple[Any, Any]]) -> None:
    for (_, over), (begins, _) in pairwise(spans):
        assert over is not None, "a second one began while the first was still there"
        assert over <= begins


def instance_row(view_id: UUID) -> dict[str, Any]:
    """The instance's row as it is stored, every column."""
    return dict(Instance.objects.filter(pk=view_id).values().get())
