"""The simulated API server without HTTP and without a wall clock: store, watches, controllers."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest

from devstack.kube.api import APPLY, MERGE, ApiError
from devstack.kube.provision import bundle_objects, path_of
from devstack.kube.sim.apiserver import VERSION, ApiServer
from devstack.kube.sim.clock import ManualClock
from devstack.kube.sim.controllers import Controllers
from devstack.kube.sim.errors import StatusError
from devstack.kube.sim.faults import ApiFaults, OrderError
from devstack.kube.sim.kinds import PODS, SECRETS, target_of
from devstack.kube.sim.local import LocalApi
from devstack.kube.sim.rules.patches import STRATEGIC, patched
from devstack.kube.sim.rules.quantities import milli
from devstack.kube.sim.rules.scheduling import Seat, bears_for, place
from devstack.kube.sim.rules.selectors import selector_of
from devstack.kube.sim.store import Store, TooOldError
from devstack.kube.sim.watches import Watch
from tests.live.pods import pods_path, rental_pod

Json = dict[str, Any]
SPACE = "gpuyard-r-01"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Cluster:
    """A cluster in virtual time with one node of two cards, driven by hand."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.clock = ManualClock(START)
        self.store = Store(self.clock, new_uid=lambda: f"uid-{next(numbers)}")
        server = ApiServer(self.store)
        self.controllers = Controllers(self.store, server.verbs, node_grace_s=40)
        self.api = LocalApi(server, "https://simulated.invalid:443")
        for item in bundle_objects(VERSION, 1):
            self.api.patch(path_of(item), item, APPLY)
        self.api.post("/api/v1/nodes", node("node-1"))
        self.beat()
        self.controllers.run_due()

    def beat(self) -> None:
        """The node renews its lease."""
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        body = {"metadata": {"name": "node-1"}, "spec": {"renewTime": str(self.clock.now())}}
        self.api.patch(f"{LEASES}/node-1", {**head, **body}, APPLY)

    def after(self, seconds: float) -> float | None:
        self.clock.advance(seconds)
        return self.controllers.run_due()

    def pod(self, name: str) -> Json:
        return self.api.get(pods_path(SPACE, name))


def node(name: str) -> Json:
    amounts = {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "99Gi", "pods": "110"}
    amounts["nvidia.com/gpu"] = "2"
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"gpuyard.io/pool": "rental"}},
        "spec": {},
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": [ready]},
    }


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


# -- a cluster in virtual time -----------------------------------------------------------------


def test_nothing_happens_until_it_is_run(cluster: Cluster) -> None:
    cluster.api.post(pods_path(SPACE), rental_pod("a"))
    assert "nodeName" not in cluster.pod("a")["spec"]
    cluster.controllers.run_due()
    assert cluster.pod("a")["spec"]["nodeName"] == "node-1"


def test_the_same_steps_give_the_same_cluster() -> None:
    def story() -> list[Json]:
        made = Cluster()
        made.api.post(pods_path(SPACE), rental_pod("a", cards=2))
        made.api.post(pods_path(SPACE), rental_pod("b"))
        made.after(1)
        made.api.delete(pods_path(SPACE, "a"), {"gracePeriodSeconds": 0})
        made.after(1)
        return [stored.body for stored in made.store.list(PODS)]

    assert story() == story()


def test_who_waits_longest_is_served_first(cluster: Cluster) -> None:
    for name in ("z-first", "a-second"):
        cluster.api.post(pods_path(SPACE), rental_pod(name, cards=2))
    cluster.controllers.run_due()
    assert cluster.pod("z-first")["spec"]["nodeName"] == "node-1"
    assert "nodeName" not in cluster.pod("a-second")["spec"]
    cluster.api.delete(pods_path(SPACE, "z-first"), {"gracePeriodSeconds": 0})
    cluster.controllers.run_due()
    assert cluster.pod("a-second")["spec"]["nodeName"] == "node-1"


def test_a_silent_node_is_given_up_and_its_pods_bear_it_for_a_time(cluster: Cluster) -> None:
    cluster.api.post(pods_path(SPACE), rental_pod("a"))
    due = cluster.after(0)
    assert due is not None
    assert due <= 40, "the driver is told when to look again"
    cluster.after(39)
    assert _ready(cluster) == "True"
    cluster.after(2)
    assert _ready(cluster) == "Unknown"
    cluster.after(299)
    assert "deletionTimestamp" not in cluster.pod("a")["metadata"]
    cluster.after(2)
    assert "deletionTimestamp" in cluster.pod("a")["metadata"]


def test_a_node_that_reports_again_is_ready_again(cluster: Cluster) -> None:
    cluster.after(41)
    assert _ready(cluster) == "Unknown"
    cluster.beat()
    status = node("node-1")["status"]
    cluster.api.patch("/api/v1/nodes/node-1/status", {"status": status}, STRATEGIC)
    cluster.controllers.run_due()
    assert _ready(cluster) == "True"
    assert cluster.api.get("/api/v1/nodes/node-1")["spec"]["taints"] == []


def test_a_namespace_goes_with_all_that_is_in_it(cluster: Cluster) -> None:
    cluster.api.post(pods_path(SPACE), rental_pod("a"))
    cluster.controllers.run_due()
    cluster.api.delete(f"/api/v1/namespaces/{SPACE}")
    cluster.controllers.run_due()
    with pytest.raises(ApiError, match="being terminated"):
        cluster.api.post(pods_path(SPACE), rental_pod("b"))
    assert cluster.api.get(f"/api/v1/namespaces/{SPACE}")["status"]["phase"] == "Terminating"
    cluster.api.delete(pods_path(SPACE, "a"), {"gracePeriodSeconds": 0})
    cluster.controllers.run_due()
    with pytest.raises(ApiError, match="not found"):
        cluster.api.get(f"/api/v1/namespaces/{SPACE}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/api/v1/namespaces/{SPACE}/pods/a/log?follow=true", None),
        (f"/api/v1/namespaces/{SPACE}/services", {"spec": {"type": "NodePort", "ports": []}}),
    ],
)
def test_what_a_real_server_has_and_this_one_lacks_is_a_501(
    cluster: Cluster, path: str, body: Json | None
) -> None:
    cluster.api.post(pods_path(SPACE), rental_pod("a"))
    with pytest.raises(ApiError) as error:
        cluster.api.call("POST" if body else "GET", path, body and {"metadata": {}, **body})
    assert error.value.status == 501


def test_a_slip_of_the_server_costs_one_request(cluster: Cluster) -> None:
    with pytest.raises(ApiError) as error:
        cluster.api.post(pods_path(SPACE), {"metadata": {"name": "a"}, "spec": 5})
    assert error.value.status == 500
    assert cluster.api.post(pods_path(SPACE), rental_pod("a"))


def test_events_end_after_an_hour(cluster: Cluster) -> None:
    cluster.api.post(pods_path(SPACE), rental_pod("a"))
    cluster.controllers.run_due()
    assert cluster.api.get(f"/api/v1/namespaces/{SPACE}/events")["items"]
    cluster.after(3700)
    reasons = [e["reason"] for e in cluster.api.get(f"/api/v1/namespaces/{SPACE}/events")["items"]]
    assert "Scheduled" not in reasons


def _ready(cluster: Cluster) -> str:
    (found,) = cluster.api.get("/api/v1/nodes/node-1")["status"]["conditions"]
    return str(found["status"])


# -- the store ---------------------------------------------------------------------------------


def _secret(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": SPACE}}


def test_a_watch_that_lags_behind_the_history_is_told() -> None:
    store = Store(ManualClock(START), history=3)
    store.create(SECRETS, _secret("a"))
    behind = Watch(store, SECRETS, SPACE, None, store.version)
    for number in range(4):
        store.create(SECRETS, _secret(f"b{number}"))
    with pytest.raises(TooOldError):
        store.changes_since(SECRETS, 2)
    (event,) = behind.take()
    assert (event.type, event.object.body["code"]) == ("ERROR", 410)
    assert behind.ended
    assert behind.take() == []


def test_a_watch_from_long_before_the_first_object_of_its_kind_sees_it() -> None:
    store = Store(ManualClock(START))
    since = store.version
    for number in range(3):
        store.create(PODS, _secret(f"other{number}"))
    store.create(SECRETS, _secret("first"))
    late = Watch(store, SECRETS, SPACE, None, since)
    assert [(event.type, event.object.name) for event in late.take()] == [("ADDED", "first")]


def test_a_change_of_another_kind_does_not_make_a_version_too_old() -> None:
    store = Store(ManualClock(START), history=3)
    since = store.version
    for number in range(9):
        store.create(SECRETS, _secret(f"a{number}"))
    assert list(store.changes_since(PODS, since)) == []


def test_what_a_reader_holds_never_changes() -> None:
    store = Store(ManualClock(START))
    first = store.create(SECRETS, _secret("a"))
    text = first.text
    store.replace(SECRETS, first, {**first.body, "data": {"k": "dg=="}})
    assert "data" not in first.body
    assert first.text == text


# -- rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1000), ("500m", 500), ("1Ki", 1024_000), ("2k", 2_000_000), ("1e3", 1_000_000)],
)
def test_quantities(text: str, amount: int) -> None:
    assert milli(text) == amount


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "--1", "1GiB"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        milli(text)


def test_a_strategic_merge_joins_conditions_by_type() -> None:
    body = {"conditions": [{"type": "A", "x": 1}, {"type": "B"}], "list": [1], "gone": 1}
    patch = {"conditions": [{"type": "A", "y": 2}, {"type": "C"}], "list": [2], "gone": None}
    assert patched(body, patch, STRATEGIC) == {
        "conditions": [{"type": "A", "x": 1, "y": 2}, {"type": "B"}, {"type": "C"}],
        "list": [2],
    }
    assert body["list"] == [1]


def test_a_merge_replaces_lists() -> None:
    assert patched({"a": [1], "b": {"c": 1}}, {"a": [2], "b": {"c": None}}, MERGE) == {
        "a": [2],
        "b": {},
    }


def test_what_is_not_simulated_says_so() -> None:
    with pytest.raises(StatusError) as error:
        patched({}, {}, "application/json-patch+json")
    assert error.value.code == 501


def test_volumes_decide_where_a_pod_fits() -> None:
    seats = [Seat(name, {"zone": name}, (), False, {"pods": 9000}, {}, 0) for name in "ab"]
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
    assert place({}, {}, seats, [[term]]).node == "b"
    refused = place({}, {}, seats[:1], [[term]])
    assert refused.message == (
        "0/1 nodes are available: 1 node(s) had volume node affinity conflict."
    )


def test_how_long_a_pod_bears_a_taint() -> None:
    taint = {"key": "k", "effect": "NoExecute"}
    fitting = {"key": "k", "operator": "Exists", "effect": "NoExecute"}
    assert bears_for([], taint) == 0
    assert bears_for([fitting], taint) is None
    assert bears_for([fitting, {**fitting, "tolerationSeconds": 5}], taint) == 5


def test_selectors_in_words() -> None:
    select = selector_of(PODS, {"labelSelector": "a in (x, y),b!=z"})
    assert select is not None
    assert select({"metadata": {"labels": {"a": "y"}}})
    assert not select({"metadata": {"labels": {"a": "y", "b": "z"}}})
    assert not select({"metadata": {}})


def test_paths() -> None:
    found = target_of("/api/v1/namespaces/x/pods/y/log")
    assert found is not None
    assert (found.namespace, found.name, found.resource) == ("x", "y", "pods/log")
    assert found.kind is PODS
    unknown = target_of("/apis/apps/v1/namespaces/x/statefulsets")
    assert unknown is not None
    assert unknown.kind is None
    assert target_of("/metrics") is None


# -- orders for faults -------------------------------------------------------------------------


def test_orders_count_what_they_hit() -> None:
    faults = ApiFaults()
    order = faults.place("error", {"path": "/api/*", "skip": 1, "times": 1}, {})
    hits = [faults.for_request("GET", "/api/v1/pods") is not None for _ in range(4)]
    assert hits == [False, True, False, False]
    assert faults.for_request("GET", "/version") is None
    assert (order.seen, order.hits) == (4, 1)
    assert faults.withdraw(order.id)
    assert not faults.withdraw(order.id)


def test_a_rate_is_drawn_from_the_orders_own_seed() -> None:
    def storm(seed: int) -> list[bool]:
        faults = ApiFaults()
        faults.place("error", {"times": 0, "rate": 0.3, "seed": seed}, {})
        return [faults.for_request("GET", "/x") is not None for _ in range(50)]

    assert storm(1) == storm(1) != storm(2)
    assert 5 < sum(storm(1)) < 25


def test_an_order_without_sense_is_refused() -> None:
    with pytest.raises(OrderError, match="there are"):
        ApiFaults().place("nonsense", {}, {})
    with pytest.raises(OrderError, match="seconds is a float"):
        ApiFaults().place("drip", {}, {"seconds": "1"})
