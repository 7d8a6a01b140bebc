"""The objects that reach a cluster, built from plain values. PURE: golden tests pin them.

Every rule of a tenant's pod is here and nowhere else; an independent policy in the tests checks
the result. Fields of servers newer than a version are set only where that server knows them.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any

from provisioner.kube.spec import ClaimMount, LeaseSpec, Owned, PodSpec, ToolKeys, ToolsSpec

Json = dict[str, Any]

INSTANCE_LABEL = "gpuyard.io/instance"
RENTAL_LABEL = "gpuyard.io/rental"
TENANT_LABEL = "gpuyard.io/tenant"
GENERATION_LABEL = "gpuyard.io/generation"
# Less of the network than the internet, by policies of the provider's bundle.
EGRESS_LABEL = "gpuyard.io/egress"
POOL_KEY, POOL_VALUE = "gpuyard.io/pool", "rental"  # node label and taint; the provider sets both
MAIN, TOOLS, CHECK = "main", "gpuyard-tools", "gpuyard-check"
# Of the tools' own keys in the Secret of an instance. No variable can be called so: the tenant's
# names have neither hyphen nor dot.
REPORT_TOKEN = "report-token"  # noqa: S105  (the name of a key, not its value)
HOST_KEY, GATEWAY_KEY = "host-key", "gateway.pub"
BIN_PATH, KEYS_PATH = "/run/gpuyard/bin", "/run/gpuyard/keys"
# Where the pod's SSH server listens: a port that nobody's program expects to have.
SSH_PORT = 22022
_PODTOOLS = f"{BIN_PATH}/podtools"
NOTICE_PATH, NOTICE_FILE = "/run/gpuyard/notice", "interrupt_at"
_TOOLS_MIB = 32  # several times what they need
_TOOLS_MOUNT = {"name": "tools", "mountPath": BIN_PATH, "readOnly": True}
_SHM = "/dev/shm"  # noqa: S108  (the place of shared memory in a container, not ours)

# What package managers and services in a container need. NET_RAW (spoofing) and MKNOD are gone.
CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
# First server version whose default turns user namespaces on.
HOST_USERS_FROM = (1, 33)


def pod(spec: PodSpec) -> Json:
    """The pod of one instance."""
    body: Json = {
        "restartPolicy": "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.termination_grace,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": on_node(spec.node),
        "tolerations": tolerations(spec.grace_seconds),
        "initContainers": _init_containers(spec),
        "containers": [_main_container(spec)],
        "volumes": [
            {
                "name": "shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": f"{spec.ram_mib // 2}Mi"},
            },
            {"name": "tools", "emptyDir": {"sizeLimit": f"{_TOOLS_MIB}Mi"}},
            {"name": "keys", "secret": _tool_keys_of(spec)},
            *({"name": v.claim, "persistentVolumeClaim": _claim_of(v)} for v in spec.volumes),
        ],
    }
    if spec.notice:
        # Not there until a notice is given: the directory is empty then.
        told = {"secretName": notice_name(spec.pod_name), "optional": True, "defaultMode": 0o444}
        body["volumes"].append({"name": "notice", "secret": told})
    if spec.runtime_class:
        body["runtimeClassName"] = spec.runtime_class
    if spec.has_pull_secret:
        body["imagePullSecrets"] = [{"name": pull_secret_name(spec.pod_name)}]
    if version_of(spec.server_version) >= HOST_USERS_FROM:
        body["hostUsers"] = False
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _pod_metadata(spec), "spec": body}


def _pod_metadata(spec: PodSpec) -> Json:
    metadata: Json = {"name": spec.pod_name, "labels": _labels(spec)}
    if spec.egress != "internet":
        metadata["labels"][EGRESS_LABEL] = spec.egress
    if spec.bandwidth_mbps is not None:
        # Read by the bandwidth plugin of the cluster's network; without it nothing is capped.
        cap = f"{spec.bandwidth_mbps}M"
        names = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")
        metadata["annotations"] = dict.fromkeys(names, cap)
    return metadata


def lease(spec: LeaseSpec, *, at: datetime, until: datetime, version: str = "") -> Json:
    """A lease that is renewed at ``at`` and shall hold until ``until``, at least a second.

    ``version`` is the one it replaces: a renewal that comes too late cannot undo a newer one.
    """
    # The server takes only times with a fraction, and the client leaves one of zero out.
    renewed = at.replace(microsecond=at.microsecond or 1)
    metadata: Json = {"name": spec.name, "labels": _labels(spec)}
    if version:
        metadata["resourceVersion"] = version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": spec.instance,
            "renewTime": renewed.isoformat(),
            "leaseDurationSeconds": max(1, int((until - at).total_seconds())),
        },
    }


def env_secret(spec: PodSpec, values: dict[str, str], keys: ToolKeys) -> Json:
    """The tenant's environment: never in the pod itself, which more people can read. Beside it the
    keys of the tools, which are files and no variables of anybody's."""
    whole = {
        **values,
        REPORT_TOKEN: keys.report_token,
        HOST_KEY: keys.host_private,
        GATEWAY_KEY: keys.gateway_public,
    }
    return _secret(spec, env_secret_name(spec.pod_name), "Opaque", whole)


def pull_secret(spec: PodSpec, *, registry: str, username: str, password: str) -> Json:
    """Credentials for the image of this one rental."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    entry = {"username": username, "password": password, "auth": auth}
    config = json.dumps({"auths": {registry: entry}})
    kind = "kubernetes.io/dockerconfigjson"
    return _secret(spec, pull_secret_name(spec.pod_name), kind, {".dockerconfigjson": config})


def notice_secret(spec: PodSpec, at: str) -> Json:
    """When the program will be stopped. No secret, but what our role may make and delete."""
    return _secret(spec, notice_name(spec.pod_name), "Opaque", {NOTICE_FILE: f"{at}\n"})


def notice_name(pod_name: str) -> str:
    return f"{pod_name}-notice"


def env_secret_name(pod_name: str) -> str:
    return f"{pod_name}-env"


def pull_secret_name(pod_name: str) -> str:
    return f"{pod_name}-pull"


def version_of(text: str | None) -> tuple[int, int]:
    """``"v1.33.2+build"`` -> (1, 33); (0, 0) for anything else: no newer field is set then."""
    found = re.match(r"v?(\d{1,3})\.(\d{1,4})", text or "")
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _secret(spec: PodSpec, name: str, kind: str, values: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": _labels(spec)},
        "type": kind,
        "data": {key: base64.b64encode(v.encode()).decode() for key, v in values.items()},
    }


def _labels(spec: Owned) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "gpuyard",
        INSTANCE_LABEL: spec.instance,
        RENTAL_LABEL: spec.rental,
        TENANT_LABEL: spec.tenant,
        GENERATION_LABEL: str(spec.generation),
    }


def _resources(spec: PodSpec) -> Json:
    amounts = {
        spec.resource: str(spec.gpus),
        "cpu": f"{spec.vcpus_milli}m",
        "memory": f"{spec.ram_mib}Mi",
        "ephemeral-storage": f"{spec.disk_mib}Mi",
    }
    return {"requests": amounts, "limits": dict(amounts)}


def _container(spec: PodSpec, name: str) -> Json:
    return {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": _resources(spec),
        "securityContext": {
            "privileged": False,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
        "terminationMessagePolicy": "File",
    }


def _main_container(spec: PodSpec) -> Json:
    """The image's own command is process 1, as its image says. The tools are left beside it by the
    hook, which the runtime executes in the container once that is started."""
    container = _container(spec, MAIN)
    container["lifecycle"] = {"postStart": {"exec": {"command": _start(spec.tools)}}}
    container["volumeMounts"] = [
        {"name": "shm", "mountPath": _SHM},
        _TOOLS_MOUNT,
        {"name": "keys", "mountPath": KEYS_PATH, "readOnly": True},
        *map(_mount, spec.volumes),
    ]
    if spec.notice:
        told = {"name": "notice", "mountPath": NOTICE_PATH, "readOnly": True}
        container["volumeMounts"].append(told)
    if spec.command:
        container["command"] = list(spec.command)
    if spec.ports:
        container["ports"] = [{"containerPort": port} for port in spec.ports]
    if spec.env_names:
        secret = env_secret_name(spec.pod_name)
        container["env"] = [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
            for name in spec.env_names
        ]
    return container


def _claim_of(volume: ClaimMount) -> Json:
    return {"claimName": volume.claim, "readOnly": volume.read_only}


def _mount(volume: ClaimMount) -> Json:
    return {"name": volume.claim, "mountPath": volume.path, "readOnly": volume.read_only}


def _tool_keys_of(spec: PodSpec) -> Json:
    """Of the Secret the tools' keys alone. Whoever the image runs as can read them: what the tools
    may do the tenant may do anyway."""
    items = [{"key": key, "path": key} for key in (REPORT_TOKEN, HOST_KEY, GATEWAY_KEY)]
    return {"secretName": env_secret_name(spec.pod_name), "items": items, "defaultMode": 0o444}


def _start(tools: ToolsSpec) -> list[str]:
    words = [_PODTOOLS, "start", "-keys", KEYS_PATH, "-ssh", f":{SSH_PORT}"]
    words += ["-report", tools.report_url]
    return [*words, "-usage", tools.usage] if tools.usage else words


def _init_containers(spec: PodSpec) -> list[Json]:
    """The tools, and the check of the cards. In one where the tools' own image can check: a kubelet
    looks once a second whether an init container has ended, and each costs every start that much.
    """
    if spec.runtime_tool:
        return [_checking_tools(spec)]
    return [_tools_container(spec), _check_container(spec)]


def _tools_container(spec: PodSpec) -> Json:
    """Copies the tools into the pod: images know nothing of us. It needs no power and no card."""
    amounts = {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": f"{_TOOLS_MIB}Mi"}
    return {
        "name": TOOLS,
        "image": spec.tools.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/podtools", "install", BIN_PATH],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": powerless(),
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "tools", "mountPath": BIN_PATH}],
    }


def _check_container(spec: PodSpec) -> Json:
    """Sees the same devices as the main container: the kubelet gives a pod's init container's
    devices to it again. It writes its report into the termination message, which is readable with
    pods/get."""
    container = _container(spec, CHECK)
    container["command"] = [_PODTOOLS, *_check(spec)]
    container["volumeMounts"] = [_TOOLS_MOUNT]
    return container


def _checking_tools(spec: PodSpec) -> Json:
    """Both in one, before the renter's image is even there."""
    container = _container(spec, CHECK)
    container["image"] = spec.tools.image
    container["command"] = ["/podtools", *_check(spec), BIN_PATH]
    container["securityContext"] = powerless()
    container["volumeMounts"] = [{"name": "tools", "mountPath": BIN_PATH}]
    return container


def _check(spec: PodSpec) -> list[str]:
    words = ["check", "/dev/termination-log", spec.check.strip("\n"), spec.tools.usage]
    return [*words, spec.parts.check, spec.parts.read] if spec.parts else words


def powerless() -> Json:
    """Of what needs no power at all: the platform's own tools."""
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def on_node(node: str) -> Json:
    """Required affinity, never spec.nodeName: the scheduler still checks that the pod fits."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }


def tolerations(grace: int) -> list[Json]:
    """Our taint, and a silent node for as long as we wait for it ourselves: left to its default
    Kubernetes would delete our bare pods after 300 s."""
    pool = {"key": POOL_KEY, "operator": "Equal", "value": POOL_VALUE, "effect": "NoSchedule"}
    waits: list[Json] = [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": grace,
        }
        for state in ("not-ready", "unreachable")
    ]
    return [pool, *waits]
