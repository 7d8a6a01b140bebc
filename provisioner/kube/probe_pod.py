"""The pod of a probe: the platform's own tools, run once where renters' pods run. PURE.

It is no renter's: no label of an instance, no Secret, no key, nothing of anybody's image. Whatever
a renter's pod may not do it may not do either, and the tools' image has less power than theirs.
"""

from __future__ import annotations

from typing import Any

from provisioner.kube.manifests import (
    HOST_USERS_FROM,
    on_node,
    powerless,
    tolerations,
    version_of,
)
from provisioner.kube.spec import ProbeSpec

Json = dict[str, Any]

PROBE_LABEL = "gpuyard.io/probe"
PROBE = "gpuyard-probe"
WORK_PATH = "/run/gpuyard/work"
# A node that fell silent has nothing to tell: the probe is given up.
_GRACE_S = 30


def probe_pod(spec: ProbeSpec) -> Json:
    """It ends by itself, is not started again, and the kubelet ends it when it does not."""
    body: Json = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": spec.seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": on_node(spec.node),
        "tolerations": tolerations(_GRACE_S),
        "containers": [_container(spec)],
        "volumes": [{"name": "work", "emptyDir": {"sizeLimit": f"{spec.disk_mib}Mi"}}],
    }
    if spec.runtime_class:
        body["runtimeClassName"] = spec.runtime_class
    if version_of(spec.server_version) >= HOST_USERS_FROM:
        body["hostUsers"] = False
    labels = {"app.kubernetes.io/managed-by": "gpuyard", PROBE_LABEL: spec.name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": spec.name, "labels": labels},
        "spec": body,
    }


def _container(spec: ProbeSpec) -> Json:
    amounts = {
        "cpu": f"{spec.vcpus_milli}m",
        "memory": f"{spec.ram_mib}Mi",
        "ephemeral-storage": f"{spec.disk_mib}Mi",
    }
    if spec.resource:
        amounts[spec.resource] = "1"
    own_node = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}
    return {
        "name": PROBE,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/podtools", *spec.command],
        "env": [{"name": "GPUYARD_HOST_IP", "valueFrom": own_node}],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": powerless(),
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "work", "mountPath": WORK_PATH}],
    }
