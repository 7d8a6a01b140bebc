"""A worker killed with -9 at each effect of a start and of a stop: the next one converges.

The rival that takes over may start only when the dead worker's claim ran out; tests shorten that
wait by ending the claim in the table, which is what time would do. One test waits it out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from kernel import clock
from kernel.ids import public
from provisioner import facade
from provisioner.contracts import InstanceView
from provisioner.models import Hold, Instance, Slot
from provisioner.reconcile import instance_loop
from provisioner.reconcile.claim import INSTANCE_CLAIM
from tests.live.pods import find
from tests.live.provider import end, now, on_sale, reaches, rent

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parents[2]


def run_worker(moment: str, number: int, database_url: str) -> int:
    """Run one worker until it is killed or has nothing to do; its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.instance_worker", moment, str(number)],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr.decode()[-2000:])
    return done.returncode


def expire_claims() -> None:
    past = clock.now() - timedelta(seconds=1)
    Instance.objects.exclude(claim_token=None).update(claim_until=past)


def pods_of(kube, view: InstanceView) -> list[str]:
    """UIDs of the rental's pods that the API server has now."""
    selector = f"gpuyard.io/rental={public('rental', view.rental_ref)}"
    found = kube.admin().get("/api/v1/pods", labelSelector=selector)["items"]
    return [pod["metadata"]["uid"] for pod in found]


# Effects of a start: the environment's secret, the lease, the pod.
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_during_a_start(kube_owned, sim, database_url, moment, number) -> None:
    view = rent(on_sale(kube_owned))
    assert run_worker(moment, number, database_url) == -signal.SIGKILL
    row = Instance.objects.get(pk=view.id)
    assert row.claim_token is not None, "it died holding its claim"
    assert instance_loop.run(seconds=0.1) == 0, "which nobody takes before its time"
    born = pods_of(kube_owned, view)
    expire_claims()
    ready = reaches(view, "ready")
    assert pods_of(kube_owned, view) == [ready.pod_uid]
    assert born in ([], [ready.pod_uid]), "the pod of the dead worker was adopted"
    end(view)
    reaches(view, "gone")
    _nothing_left(kube_owned, view)


# Effects of a stop: the pod's deletion, then its deletion again until it is gone, the lease's, the
# secret's.
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_killed_during_a_stop(kube_owned, sim, database_url, moment, number) -> None:
    view = rent(on_sale(kube_owned))
    reaches(view, "ready")
    end(view)
    # Where the pod goes quickly a later effect may never come; then there was nothing to kill.
    run_worker(moment, number, database_url)
    expire_claims()
    reaches(view, "gone")
    _nothing_left(kube_owned, view)


def test_killed_for_real_it_converges_in_thirty_seconds(kube_owned, sim, database_url) -> None:
    """Without any help from the test: the claim runs out by itself."""
    view = rent(on_sale(kube_owned))
    assert run_worker("after", 3, database_url) == -signal.SIGKILL
    began = time.monotonic()
    reaches(view, "ready", seconds=30)
    assert time.monotonic() - began < 30
    assert timedelta(seconds=30) > INSTANCE_CLAIM
    assert len(pods_of(kube_owned, view)) == 1
    end(view)
    reaches(view, "gone")


def test_ended_while_the_dead_workers_create_is_unknown(kube_owned, sim, database_url) -> None:
    """The pod exists, nobody wrote that down, and the renter ends the rental."""
    view = rent(on_sale(kube_owned))
    assert run_worker("after", 3, database_url) == -signal.SIGKILL
    assert len(pods_of(kube_owned, view)) == 1
    assert Instance.objects.get(pk=view.id).pod_uid is None
    end(view)
    expire_claims()
    reaches(view, "gone")
    _nothing_left(kube_owned, view)


def _nothing_left(kube, view: InstanceView) -> None:
    api = kube.admin()
    assert pods_of(kube, view) == []
    assert find(api, view.namespace, view.pod_name) is None
    secrets = api.get(f"/api/v1/namespaces/{view.namespace}/secrets")["items"]
    assert not [s for s in secrets if s["metadata"]["name"].startswith(view.pod_name)]
    path = f"/apis/coordination.k8s.io/v1/namespaces/{view.namespace}/leases"
    assert not [s for s in api.get(path)["items"] if s["metadata"]["name"] == view.pod_name]
    assert not Hold.objects.filter(instance_id=view.id, to_ts=None).exists()
    assert not Slot.objects.filter(state="held").exists()
    seqs = [event.seq for event in facade.instance_events(rental_ref=view.rental_ref)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert now(view).state == "gone"
