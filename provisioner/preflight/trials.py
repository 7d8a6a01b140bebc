"""The pods that a preflight tries in a dry run: one like our renters', and those no server may let
in. PURE.

Each forbidden one is ours with a single change, so that its refusal has a single reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from provisioner.inventory.accelerators import Family
from provisioner.kube import manifests
from provisioner.kube.spec import PodSpec, ToolsSpec

Json = dict[str, Any]

# The one kind that is tried in every namespace: what lets it in lets in all others.
FIRST_KIND = "privileged"
NAME = "gy-preflight"


def plain(family: Family, *, image: str, report_url: str, version: str | None) -> Json:
    """A pod as a rental of one card would have, called by a name that none has."""
    return manifests.pod(
        PodSpec(
            pod_name=NAME,
            instance=NAME,
            rental=NAME,
            tenant=NAME,
            generation=1,
            node=NAME,
            resource=family.resource,
            runtime_class=family.runtime_class,
            check=family.check,
            runtime_tool=family.tool == "runtime",
            tools=ToolsSpec(image=image, report_url=report_url, usage=family.usage.strip()),
            gpus=1,
            vcpus_milli=1000,
            ram_mib=1024,
            disk_mib=1024,
            image=image,
            command=(),
            ports=(),
            env_names=(),
            has_pull_secret=False,
            termination_grace=10,
            grace_seconds=30,
            server_version=version,
        )
    )


def forbidden(ours: Json) -> dict[str, Json]:
    """By kind."""
    return {kind: _changed(ours, change) for kind, change in _CHANGES.items()}


def _changed(ours: Json, change: Callable[[Json, Json], None]) -> Json:
    body = copy.deepcopy(ours)
    # Together with the host's namespaces it is not even valid, which would be no refusal.
    body["spec"].pop("hostUsers", None)
    change(body["spec"], body["spec"]["containers"][0])
    return body


def _privileged(_: Json, main: Json) -> None:
    main["securityContext"] = {"privileged": True}


def _capable(_: Json, main: Json) -> None:
    main["securityContext"]["capabilities"]["add"].append("SYS_ADMIN")


def _host_port(_: Json, main: Json) -> None:
    main["ports"] = [{"containerPort": 80, "hostPort": 80}]


def _host_path(spec: Json, _: Json) -> None:
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def _host_network(spec: Json, _: Json) -> None:
    spec["hostNetwork"] = True


def _host_processes(spec: Json, _: Json) -> None:
    spec["hostPID"] = True


_CHANGES: dict[str, Callable[[Json, Json], None]] = {
    FIRST_KIND: _privileged,
    "host path": _host_path,
    "host network": _host_network,
    "host processes": _host_processes,
    "host port": _host_port,
    "SYS_ADMIN": _capable,
}
