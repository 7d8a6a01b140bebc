"""Probes on a real kubelet: what our own tools say of this machine, and what a policy that nobody
enforces lets through."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from devstack.kube.api import Api
from devstack.stack import REAL
from tests.live.real_node.conftest import RealWorld
from tests.sshpod import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

Json = dict[str, Any]

_PROBES = """
SELECT kind, state, failure, result, extract(epoch FROM gone_at - created_at)
FROM provisioner_probe ORDER BY number
"""


def probes(world: RealWorld) -> list[tuple[str, str, str, Json | None, float]]:
    with psycopg.connect(world.stack.postgres.url) as connection:
        return connection.execute(_PROBES).fetchall()


def ended(world: RealWorld) -> dict[str, Any]:
    """The last of each kind, once all are gone."""

    def over() -> bool:
        states = [state for _, state, *_ in probes(world)]
        return len(states) > 1 and set(states) == {"gone"}

    until(over, "the probes are gone", deadline_s=120)
    return {kind: tuple(rest) for kind, *rest in probes(world)}


def test_this_machine_is_measured_by_pods_that_really_run(
    real_world: RealWorld, record_property: Any
) -> None:
    found = ended(real_world)
    for kind, (_, failure, result, took) in found.items():
        line = f"{kind} in {took:.0f} s: {failure} {json.dumps(result)}"
        record_property("measured", line)
        print(line)
    result = found["benchmark"][2]
    assert result is not None, found["benchmark"][1]
    for figure in ("cpu_single_sha256_mib_s", "memory_copy_mib_s", "disk_write_mib_s"):
        assert result[figure] > 1, figure
    (card,) = result["cards"]
    assert card["model"]
    assert card["driver"]
    assert card["memory_mib"] > 1000


def test_nobody_enforces_the_policy_here_and_everybody_is_told(real_world: RealWorld) -> None:
    result = ended(real_world)["network"][2]
    assert result is not None
    verdicts = {row["what"]: row["verdict"] for row in result["tries"]}
    assert "open" in (verdicts["api"], verdicts["kubelet"]), verdicts
    (cluster,) = real_world.provider.api.get("/provider/clusters")["items"]
    rules = real_world.provider.api.get(f"/provider/clusters/{cluster['id']}/preflight")["rules"]
    told = next(rule for rule in rules if rule["rule"] == "policy_enforced")
    assert (told["outcome"], "kubelet" in told["measured"]) == ("warn", True)
    (offer, *_) = real_world.renter.api.get("/offers")["items"]
    assert offer["network_policy"] == "open"
    assert offer["benchmark"] > 0
    assert offer["tier"] == "new"
    assert cluster["stage"] == "probation"
    assert "more starts" in cluster["stage_text"]


def test_nothing_of_them_is_left_in_the_cluster(real_world: RealWorld) -> None:
    ended(real_world)
    admin = Api.from_kubeconfig(real_world.stack.clusters[REAL].admin_kubeconfig)
    pods = admin.get("/api/v1/pods?labelSelector=gpuyard.io/probe")["items"]
    assert pods == []
