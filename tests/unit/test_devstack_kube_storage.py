"""The simulated storage system's parts that need no server: classes, orders, volumes."""

from __future__ import annotations

import pytest

from devstack.kube.faults import OrderError, Orders
from devstack.kube.storagesim import StorageSim, load_storage, volume_name

CLAIM = {
    "metadata": {"name": "gv-1", "namespace": "gpuyard-r-01", "uid": "u-1", "labels": {"a": "b"}},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "5Gi"}},
    },
}


def test_one_fleet_keeps_data_on_a_node_and_the_other_on_the_network():
    owned, partner = load_storage("dc-owned"), load_storage("dc-partner")
    assert owned is not None
    assert partner is not None
    assert (owned.local, owned.body()["volumeBindingMode"]) == (True, "WaitForFirstConsumer")
    assert (partner.local, partner.body()["volumeBindingMode"]) == (False, "Immediate")
    for kind in (owned, partner):
        assert kind.body()["metadata"]["labels"] == {"gpuyard.io/storage": "true"}
    assert load_storage("a-fleet-without") is None


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"claim": "gv-1"}, True),
        ({"claim": "gv-*"}, True),
        ({"claim": "other"}, False),
        ({"namespace": "gpuyard-r-02"}, False),
        ({"labels": {"a": "b"}}, True),
        ({"labels": {"a": "c"}}, False),
    ],
)
def test_orders_match_claims(match, fits):
    orders = Orders()
    orders.place("slow_bind", match, {})
    assert (orders.for_claim("slow_bind", CLAIM["metadata"]) is not None) == fits
    assert orders.for_claim("bind_error", CLAIM["metadata"]) is None


@pytest.mark.parametrize(
    ("kind", "match"), [("slow_bind", {"pod": "gv-1"}), ("crash", {"claim": "gv-1"})]
)
def test_claims_and_pods_are_not_mixed_up(kind, match):
    with pytest.raises(OrderError):
        Orders().place(kind, match, {})


def test_a_local_volume_names_its_node_and_its_claim():
    kind = load_storage("dc-owned")
    assert kind is not None
    sim = StorageSim(kind, api=None, orders=Orders(), say=print)  # type: ignore[arg-type]
    body = sim._volume(CLAIM, "node-1")
    assert body["metadata"]["name"] == volume_name(CLAIM) == "pvc-u-1"
    assert body["spec"]["claimRef"]["uid"] == "u-1"
    (term,) = body["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["node-1"]
