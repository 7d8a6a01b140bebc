"""What a provider does before registering a cluster: apply the bundle and ask for a token.

It applies the very files of deploy/provider/ that a provider is given, so the demo and the live
tests run with the rights and policies of real clusters. Only here admin credentials are used.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from devstack.kube.api import APPLY, Api, ApiError, Json

BUNDLE = Path(__file__).resolve().parents[2] / "deploy" / "provider"
POOL_PREFIX = "gpuyard-r-"
TOKEN_SECONDS = 30 * 24 * 3600
REAPER = "gpuyard-reaper"
RELAY = "gpuyard-relay"
_FIRST = f"{POOL_PREFIX}01"
_FIELD_MANAGER = "provider-bundle"
_NAMESPACE_READY_WITHIN_S = 30.0

# Kind -> (path prefix, plural). What the bundle contains and nothing else: an unknown kind is an
# error in the bundle.
_CORE, _RBAC = "/api/v1", "/apis/rbac.authorization.k8s.io/v1"
_KINDS = {
    "Namespace": (_CORE, "namespaces"),
    "ServiceAccount": (_CORE, "serviceaccounts"),
    "ConfigMap": (_CORE, "configmaps"),
    "Secret": (_CORE, "secrets"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ResourceQuota": (_CORE, "resourcequotas"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Role": (_RBAC, "roles"),
    "RoleBinding": (_RBAC, "rolebindings"),
    "ClusterRole": (_RBAC, "clusterroles"),
    "ClusterRoleBinding": (_RBAC, "clusterrolebindings"),
    "PodSecurityPolicy": ("/apis/policy/v1beta1", "podsecuritypolicies"),
    "ValidatingAdmissionPolicy": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
    ),
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
    ),
}


@dataclasses.dataclass(frozen=True)
class Credentials:
    """All that the platform is ever given of a cluster."""

    api_url: str
    ca_pem: str
    token: str = dataclasses.field(repr=False)


def provision(
    admin: Api, *, ca_pem: str, version: tuple[int, int], namespaces: int = 16
) -> Credentials:
    """Apply the bundle for a server of `version` and request the platform's token.

    `namespaces`: size of the rental pool. Raises ApiError when the server refuses, TimeoutError
    when a namespace does not become usable.
    """
    objects = bundle_objects(version, namespaces)
    apply(admin, objects)
    for item in objects:
        if item["kind"] == "Namespace":
            _wait_until_usable(admin, item["metadata"]["name"])
    return Credentials(admin.url, ca_pem, request_token(admin))


def apply(admin: Api, objects: Iterable[Json]) -> None:
    """As `kubectl apply` does, server-side. Raises ApiError."""
    for item in objects:
        admin.patch(path_of(item), item, APPLY, fieldManager=_FIELD_MANAGER, force="true")


def bundle_objects(version: tuple[int, int], namespaces: int = 16) -> list[Json]:
    """The bundle's objects for a server of `version`, with a pool of that size."""
    files = ["bundle.yaml", "reaper.yaml", "relay.yaml"]
    files += ["psp-1.24-and-older.yaml"] if version <= (1, 24) else []
    files += ["egress-1.22-and-newer.yaml"] if version >= (1, 22) else []
    files += ["admission-1.30-and-newer.yaml"] if version >= (1, 30) else []
    objects: list[Json] = []
    for file in files:
        objects += _resized([copy.deepcopy(item) for item in _items_of(file)], namespaces)
    return objects


@functools.cache
def _items_of(file: str) -> list[Json]:
    """Parsed once for however many clusters; nobody may change them."""
    items: list[Json] = yaml.safe_load((BUNDLE / file).read_text())["items"]
    return items


def path_of(item: Json) -> str:
    """The object's address on the server. Raises KeyError for a kind the bundle never has."""
    prefix, plural = _KINDS[item["kind"]]
    metadata = item["metadata"]
    inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{prefix}{inside}/{plural}/{metadata['name']}"


def request_token(admin: Api, seconds: int = TOKEN_SECONDS, *, account: str = "gpuyard") -> str:
    """A token of the platform's account, or of another one beside it, valid for `seconds` if the
    server grants that much."""
    answer = admin.post(
        f"/api/v1/namespaces/gpuyard-system/serviceaccounts/{account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        },
    )
    token: str = answer["status"]["token"]
    return token


def pool_names(count: int) -> list[str]:
    return [f"{POOL_PREFIX}{number:02d}" for number in range(1, count + 1)]


def _resized(items: Iterable[Json], namespaces: int) -> list[Json]:
    """`items` with the pool's part repeated for `namespaces`: the first one is the pattern."""
    rest = [item for item in items if not _pool_namespace(item).startswith(POOL_PREFIX)]
    pattern = [item for item in items if _pool_namespace(item) == _FIRST]
    return rest + [_renamed(item, name) for name in pool_names(namespaces) for item in pattern]


def _pool_namespace(item: Json) -> str:
    metadata = item["metadata"]
    found: str = metadata["name"] if item["kind"] == "Namespace" else metadata.get("namespace", "")
    return found


def _renamed(item: Json, namespace: str) -> Json:
    copied: dict[str, Any] = copy.deepcopy(item)
    copied["metadata"]["name" if item["kind"] == "Namespace" else "namespace"] = namespace
    return copied


def _wait_until_usable(admin: Api, namespace: str) -> None:
    """Until its default service account exists no pod can be created in a namespace."""
    deadline = time.monotonic() + _NAMESPACE_READY_WITHIN_S
    while True:
        try:
            admin.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except ApiError as error:
            if error.status != 404:
                raise
            if time.monotonic() > deadline:
                raise TimeoutError(f"{namespace} got no default service account") from error
            time.sleep(0.02)
        else:
            return
