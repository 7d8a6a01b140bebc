"""Leases and the reaper on a real control plane: the bundle's own program, with its own account.

Nothing of the platform runs in these tests unless a test runs it: that is a control plane that is
away. Times are the database's for the platform and the monotonic clock for what was seen.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from devstack.kube.api import Api, ApiError, Json
from devstack.kube.provision import REAPER, request_token
from kernel import clock
from kernel.ids import public
from provisioner import facade
from provisioner.contracts import InstanceView, ReaperState
from provisioner.kube import manifests
from provisioner.kube.connections import connect
from provisioner.kube.errors import Rejected
from provisioner.kube.spec import LeaseSpec
from provisioner.models import Cluster, Instance
from provisioner.reconcile import leases
from tests.live.pods import find, until
from tests.live.provider import end, look, now, on_sale, reaches, rent

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

SPACE = "gpuyard-r-01"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


def renew(view: InstanceView, seconds: float) -> None:
    """The platform's wish and its loop, once: the lease holds for so long from now."""
    facade.set_leases([(view.rental_ref, clock.now() + timedelta(seconds=seconds))])
    Instance.objects.filter(pk=view.id).update(lease_due_at=clock.now())
    assert leases.run() == 1


def test_a_pod_is_never_there_without_its_lease(kube_owned, sim) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reaches(view, "ready")
    admin = kube_owned.admin()
    path = f"{LEASES.format(view.namespace)}/{view.pod_name}"
    lease, pod = admin.get(path), find(admin, view.namespace, view.pod_name)
    assert pod is not None
    assert lease["metadata"]["labels"] == pod["metadata"]["labels"]
    assert lease["spec"]["holderIdentity"] == public("instance", view.id)
    assert 590 <= lease["spec"]["leaseDurationSeconds"] <= 600
    assert lease["metadata"]["creationTimestamp"] <= pod["metadata"]["creationTimestamp"]

    renew(view, 3600)
    longer = admin.get(path)
    assert 3590 <= longer["spec"]["leaseDurationSeconds"] <= 3600
    row = Instance.objects.get(pk=view.id)
    assert row.lease_version == longer["metadata"]["resourceVersion"]
    renew(view, 7200)  # by the version it remembers, without reading first
    assert admin.get(path)["spec"]["leaseDurationSeconds"] > 3600

    end(view)
    reaches(view, "gone")
    with pytest.raises(ApiError) as absent:
        admin.get(path)
    assert absent.value.status == 404


def test_a_pod_ends_with_its_lease_when_nobody_renews_it(kube_owned, sim) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reaches(view, "ready")
    admin = kube_owned.admin()
    renew(view, 15)
    began = time.monotonic()
    # From here on the platform is away. Only the reaper and the nodes go on.
    until("the pod is told to go", lambda: _leaving(admin, view), within_s=60)
    lived = time.monotonic() - began
    print(f"a lease of 15 s: told to go after {lived:.1f} s")
    assert 13 < lived < 35
    until("the pod is gone", lambda: find(admin, view.namespace, view.pod_name) is None, 60)
    look()  # the platform is back
    reaches(view, "gone")
    assert now(view).reason == "lease_over"


def _leaving(admin: Api, view: InstanceView) -> bool:
    pod = find(admin, view.namespace, view.pod_name)
    return pod is None or "deletionTimestamp" in pod["metadata"]


def test_a_pod_whose_lease_is_renewed_lives_on(kube_owned, sim) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    uid = reaches(view, "ready").pod_uid
    admin = kube_owned.admin()
    ends = time.monotonic() + 30
    while time.monotonic() < ends:  # twice the lease's length, renewed at a third of it
        renew(view, 15)
        time.sleep(5)
        pod = find(admin, view.namespace, view.pod_name)
        assert pod is not None
        assert pod["metadata"]["uid"] == uid
        assert "deletionTimestamp" not in pod["metadata"]
    end(view)
    reaches(view, "gone")
    assert now(view).reason == "terminated_by_user"


def test_what_a_renewal_that_comes_late_does(kube_owned) -> None:
    """It cannot undo a newer one. It does bring back a lease that was deleted, version or not: that
    is why an end waits for a renewal on its way (lease.in_flight)."""
    cluster = Cluster.objects.get(pk=on_sale(kube_owned).id)
    api, at = connect(cluster), clock.now()
    spec = LeaseSpec("gy-late", "ins_late", "ren_late", "org_late", 1)
    hour = at + timedelta(hours=1)
    first = api.create_lease(SPACE, manifests.lease(spec, at=at, until=hour))
    assert first
    assert api.create_lease(SPACE, manifests.lease(spec, at=at, until=hour)) == ""
    assert api.lease_version(SPACE, "gy-late") == first
    later = at + timedelta(seconds=1)
    second = api.replace_lease(SPACE, manifests.lease(spec, at=later, until=hour, version=first))
    assert second != first, "the reaper sees a renewal by this"
    with pytest.raises(Rejected) as stale:
        api.replace_lease(SPACE, manifests.lease(spec, at=at, until=hour, version=first))
    assert stale.value.code == "conflict"
    api.delete_lease(SPACE, "gy-late")
    api.delete_lease(SPACE, "gy-late")
    assert api.replace_lease(SPACE, manifests.lease(spec, at=at, until=hour, version=second))
    api.delete_lease(SPACE, "gy-late")
    with pytest.raises(Rejected) as gone:
        api.lease_version(SPACE, "gy-late")
    assert gone.value.code == "not_found"


def test_the_platform_sees_the_reaper_work(kube_owned) -> None:
    until("its first heartbeat", lambda: _beats(kube_owned.admin()), within_s=30)
    cluster = on_sale(kube_owned)
    assert cluster.reaper_state == ReaperState.RUNNING
    assert cluster.reaper_version == 1
    assert cluster.reaper_seen_at is not None


def _beats(admin: Api) -> bool:
    shown = admin.get(f"{LEASES.format('gpuyard-system')}/gpuyard-reaper")
    return "renewTime" in (shown.get("spec") or {})


REFUSED = [
    ("GET", f"/api/v1/namespaces/{SPACE}/pods/any"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods"),
    ("PATCH", f"/api/v1/namespaces/{SPACE}/pods/any"),
    ("GET", f"/api/v1/namespaces/{SPACE}/pods/any/log"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods/any/exec?command=id"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods/any/eviction"),
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets"),
    ("GET", f"/api/v1/namespaces/{SPACE}/events"),
    ("DELETE", f"/api/v1/namespaces/{SPACE}/services/any"),
    ("GET", f"/api/v1/namespaces/{SPACE}/configmaps"),
    ("GET", f"{LEASES.format(SPACE)}/any"),
    ("POST", LEASES.format(SPACE)),
    ("PUT", f"{LEASES.format(SPACE)}/any"),
    ("DELETE", f"{LEASES.format(SPACE)}/any"),
    ("DELETE", f"/api/v1/namespaces/{SPACE}/pods"),  # all at once
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/default/pods"),
    ("DELETE", "/api/v1/namespaces/default/pods/any"),
    ("GET", "/api/v1/namespaces/gpuyard-system/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-system/secrets"),
    ("GET", LEASES.format("gpuyard-system")),
    ("PUT", f"{LEASES.format('gpuyard-system')}/other"),
    ("DELETE", f"{LEASES.format('gpuyard-system')}/gpuyard-reaper"),
    ("PATCH", "/api/v1/namespaces/gpuyard-system/configmaps/gpuyard-reaper"),
    ("PATCH", "/apis/apps/v1/namespaces/gpuyard-system/deployments/gpuyard-reaper"),
    ("POST", "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard-reaper/token"),
    ("POST", "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard/token"),
    ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/rolebindings"),
]


@pytest.fixture(scope="module")
def reaper(kube_owned) -> Api:
    token = request_token(kube_owned.admin(), account=REAPER)
    return Api(kube_owned.api_url, kube_owned.ca_pem, token=token)


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_the_reapers_token_can_do_nothing_else(reaper, method, path) -> None:
    body: Json | None = {"metadata": {}} if method in {"POST", "PATCH", "PUT"} else None
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as refused:
        reaper.call(method, path, body, kind)
    assert refused.value.status == 403


def test_the_reapers_token_can_do_its_work(reaper) -> None:
    """Else the refusals above would prove nothing."""
    assert "items" in reaper.get(f"/api/v1/namespaces/{SPACE}/pods")
    assert "items" in reaper.get(LEASES.format(SPACE))
    assert reaper.get(f"{LEASES.format('gpuyard-system')}/gpuyard-reaper")
    with pytest.raises(ApiError) as absent:
        reaper.delete(f"/api/v1/namespaces/{SPACE}/pods/gy-none")
    assert absent.value.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"{LEASES.format('gpuyard-system')}/gpuyard-reaper"),
        ("DELETE", f"{LEASES.format('gpuyard-system')}/gpuyard-reaper"),
        ("GET", f"{LEASES.format('gpuyard-system')}/other"),
        ("GET", LEASES.format("gpuyard-system")),
        ("GET", "/api/v1/namespaces/gpuyard-system/configmaps/gpuyard-reaper"),
        ("PATCH", "/apis/apps/v1/namespaces/gpuyard-system/deployments/gpuyard-reaper"),
        ("POST", "/api/v1/namespaces/gpuyard-system/serviceaccounts/gpuyard-reaper/token"),
    ],
)
def test_the_platform_can_read_the_heartbeat_and_no_more(kube_owned, method, path) -> None:
    tenant = kube_owned.tenant()
    assert tenant.get(f"{LEASES.format('gpuyard-system')}/gpuyard-reaper")
    body: Json | None = {"metadata": {}} if method in {"POST", "PATCH", "PUT"} else None
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as refused:
        tenant.call(method, path, body, kind)
    assert refused.value.status == 403
