"""Probe pods on both servers: the small role suffices, simulated nodes tell their own figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.kube.errors import Rejected
from provisioner.kube.probe_pod import probe_pod
from provisioner.kube.spec import ProbeSpec
from provisioner.models import Probe
from provisioner.preflight.measured import benchmark_of, enforced, network_of, pull_seconds
from provisioner.reconcile.probe_steps import Looked, Step, take
from tests.contract.kube.conftest import SPACE, Kube, until
from tests.contract.kube.test_preflight import IMAGE

DISK = ["-disk-mib", "1024"]


def spec(kube: Kube, name: str, *command: str, resource: str = "") -> ProbeSpec:
    node = kube.api.list_nodes()[0]["metadata"]["name"]
    return ProbeSpec(
        name=name,
        node=node,
        image=IMAGE,
        command=command,
        vcpus_milli=2000,
        ram_mib=1024,
        disk_mib=2048,
        seconds=120,
        resource=resource,
    )


def run(kube: Kube, wanted: ProbeSpec) -> Looked:
    """By the loop's own calls: created, looked at until it has told, removed until it is gone."""
    step = Step(Probe.State.WANTED, SPACE, wanted.name, "", probe_pod(wanted))
    step = replace(step, uid=take(kube.api, step).uid, state=Probe.State.RUNNING)
    told: Looked = until(
        "it has ended", lambda: found if (found := take(kube.api, step)).ended else None
    )
    ending = replace(step, state=Probe.State.ENDING)
    until("it is gone", lambda: take(kube.api, ending).absent)
    return told


def _ended(kube: Kube, step: Step) -> Looked | None:
    looked = take(kube.api, step)
    return looked if looked.ended else None


def test_a_benchmark_tells_the_figures_of_its_machine(kube: Kube, name: str) -> None:
    words = ["bench", "-work", "/run/gpuyard/work", *DISK, "-cpus", "2", "-url", "", "-check", "x"]
    told = run(kube, spec(kube, name, *words, resource="nvidia.com/gpu"))
    result = benchmark_of(told.message)
    assert result is not None, told.message
    assert result["cpu_all_sha256_mib_s"] == 2 * result["cpu_single_sha256_mib_s"]
    assert (result["disk_kind"], result["net_down_mbps"]) == ("nvme", None)
    (card,) = result["cards"]
    assert card["uid"].startswith("GPU-")
    assert card["driver"]
    assert card["memory_mib"] > 1000


def test_a_network_probe_reaches_what_no_policy_keeps_from_it(kube: Kube, name: str) -> None:
    told = run(kube, spec(kube, name, "probe", "-outside", "gpuyard.example.com:443"))
    result = network_of(told.message)
    assert result is not None
    assert enforced(result) is False


def test_the_node_says_how_long_an_image_took(kube: Kube, name: str) -> None:
    wanted = replace(
        spec(kube, name, "probe", "-outside", "x:1"), image=f"r.example.com/{name}@sha256:{0:064}"
    )
    told = run(kube, wanted)

    def said() -> list[float]:
        took = pull_seconds(kube.api.list_events(SPACE), told.uid)
        return [] if took is None else [took]

    # A node sends its events beside the pod's status: a probe that is quick may end before them.
    assert told.pull_seconds in (None, *until("its node said so", said))
    again = replace(wanted, name=f"{name}-2")
    assert run(kube, again).pull_seconds is None  # it is there


def test_a_probe_that_is_there_already_is_ours(kube: Kube, name: str) -> None:
    wanted = spec(kube, name, "probe", "-outside", "x:1")
    step = Step(Probe.State.WANTED, SPACE, name, "", probe_pod(wanted))
    assert take(kube.api, step).uid == take(kube.api, step).uid
    ending = replace(step, state=Probe.State.ENDING)
    until("it is gone", lambda: take(kube.api, ending).absent)
    with pytest.raises(Rejected):
        kube.api.get_pod(SPACE, name)


def test_events_are_only_of_the_pod_that_is_meant(kube: Kube, name: str) -> None:
    run(kube, spec(kube, name, "probe", "-outside", "x:1"))
    assert pull_seconds(kube.api.list_events(SPACE), "another") is None
