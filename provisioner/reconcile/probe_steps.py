"""The calls of one visit to a probe, and what its pod is made of. Calls only, no tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from provisioner.inventory.accelerators import families
from provisioner.kube.api import ClusterApi
from provisioner.kube.errors import Rejected
from provisioner.kube.pods import PodFacts, facts
from provisioner.kube.probe_pod import WORK_PATH, probe_pod
from provisioner.kube.spec import ProbeSpec
from provisioner.models import Probe
from provisioner.preflight.measured import pull_seconds
from provisioner.preflight.probing import POD_SECONDS

# What is written to the disk: more than its own memory has, and a fraction of what a renter gets.
_MOST_DISK_MIB = 2048
# Of the network probe, which only connects.
_SMALL_MILLI, _SMALL_MIB = 100, 64


@dataclass(frozen=True)
class Step:
    """Where a probe stands, as values that a thread may take along."""

    state: str
    namespace: str
    name: str
    uid: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Looked:
    """What a visit found: its pod, or its absence."""

    absent: bool = False
    uid: str = ""
    ended: bool = False
    message: str = ""
    pull_seconds: float | None = None


def step_of(probe: Probe, settings: Any) -> Step:
    spec = _benchmark(probe, settings) if probe.group is not None else _network(probe, settings)
    return Step(probe.state, probe.namespace.name, probe.pod_name, probe.pod_uid, probe_pod(spec))


def take(api: ClusterApi, step: Step) -> Looked:
    """Raises the errors of kube/errors.py."""
    if step.state == Probe.State.WANTED:
        return Looked(uid=_created(api, step).uid)
    try:
        pod = _seen(api, step)
        if step.state == Probe.State.ENDING:
            api.delete_pod(step.namespace, step.name, uid=pod.uid, grace=0)
            return Looked(uid=_seen(api, step).uid)  # what has ended is mostly gone at once
    except Rejected as error:
        if error.code != "not_found":
            raise
        return Looked(absent=True)
    if step.uid and pod.uid != step.uid:
        return Looked(absent=True)
    return _looked(api, step, pod)


def _created(api: ClusterApi, step: Step) -> PodFacts:
    """One that is there already is ours: the name is nobody else's."""
    try:
        return _facts(api.create_pod(step.namespace, step.body))
    except Rejected as error:
        if error.code != "exists":
            raise
    return _seen(api, step)


def _seen(api: ClusterApi, step: Step) -> PodFacts:
    return _facts(api.get_pod(step.namespace, step.name))


def _facts(body: dict[str, Any]) -> PodFacts:
    found = facts(body)
    if found is None:
        raise Rejected("not_json", "a pod without name or UID")
    return found


def _looked(api: ClusterApi, step: Step, pod: PodFacts) -> Looked:
    if pod.phase not in ("Succeeded", "Failed"):
        return Looked(uid=pod.uid)
    said = pod.measured.message or pod.measured.ended or pod.reason
    took = pull_seconds(api.list_events(step.namespace), pod.uid)
    return Looked(uid=pod.uid, ended=True, message=said, pull_seconds=took)


def _network(probe: Probe, settings: Any) -> ProbeSpec:
    given = urlsplit(settings.GPUYARD_REPORT_URL)
    port = given.port or (443 if given.scheme == "https" else 80)
    return ProbeSpec(
        name=probe.pod_name,
        node=probe.node.name,
        image=settings.GPUYARD_TOOLS_IMAGE,
        command=("probe", "-outside", f"{given.hostname}:{port}"),
        seconds=POD_SECONDS,
        server_version=probe.cluster.server_version,
        vcpus_milli=_SMALL_MILLI,
        ram_mib=_SMALL_MIB,
        disk_mib=_SMALL_MIB,
    )


def _benchmark(probe: Probe, settings: Any) -> ProbeSpec:
    """As a renter of one card has it. The vendor's tool is asked where the runtime brings it."""
    group, share = probe.group, probe.share
    if group is None or share is None:
        raise ValueError("a benchmark is of a share and its group")
    family = families()[share.resource_name]
    disk = min(group.disk_mib_per_gpu, _MOST_DISK_MIB)
    words = ["bench", "-work", WORK_PATH, "-disk-mib", str(disk // 2)]
    words += ["-cpus", str(max(1, math.ceil(group.vcpus_milli_per_gpu / 1000)))]
    words += ["-url", settings.GPUYARD_BENCH_URL]
    if family.tool == "runtime":
        words += ["-check", family.check.strip("\n"), "-driver", family.driver_command]
    return ProbeSpec(
        name=probe.pod_name,
        node=probe.node.name,
        image=settings.GPUYARD_TOOLS_IMAGE,
        command=tuple(words),
        vcpus_milli=group.vcpus_milli_per_gpu,
        ram_mib=group.ram_mib_per_gpu,
        disk_mib=disk,
        seconds=POD_SECONDS,
        resource=share.resource_name,
        runtime_class=family.runtime_class,
        server_version=probe.cluster.server_version,
    )
