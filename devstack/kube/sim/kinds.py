"""Which resources there are, and what a URL path means. Data and one parser; no behaviour."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote


@dataclasses.dataclass(frozen=True)
class Kind:
    """One resource type. `key` is how quotas and messages name it: `leases.coordination.k8s.io`."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


_STATUS = frozenset({"status"})

PODS = Kind("", "v1", "pods", "Pod", subresources=_STATUS | {"log"})
NODES = Kind("", "v1", "nodes", "Node", namespaced=False, subresources=_STATUS)
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False, subresources=_STATUS)
SECRETS = Kind("", "v1", "secrets", "Secret")
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
SERVICES = Kind("", "v1", "services", "Service", subresources=_STATUS)
EVENTS = Kind("", "v1", "events", "Event")
ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount", subresources=frozenset({"token"}))
CLAIMS = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", subresources=_STATUS)
VOLUMES = Kind(
    *("", "v1", "persistentvolumes", "PersistentVolume"), namespaced=False, subresources=_STATUS
)
QUOTAS = Kind("", "v1", "resourcequotas", "ResourceQuota", subresources=_STATUS)
LIMIT_RANGES = Kind("", "v1", "limitranges", "LimitRange")
# Kept and never run, as in devstack's real clusters, which have no controller for it.
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
RUNTIME_CLASSES = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
STORAGE_CLASSES = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
NETWORK_POLICIES = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
_RBAC = "rbac.authorization.k8s.io"
ROLES = Kind(_RBAC, "v1", "roles", "Role")
ROLE_BINDINGS = Kind(_RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Kind(
    _RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
SECURITY_POLICIES = Kind(
    "policy", "v1beta1", "podsecuritypolicies", "PodSecurityPolicy", namespaced=False
)
# Answered, never stored.
ACCESS_REVIEWS = Kind(
    *("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    namespaced=False,
)
RULES_REVIEWS = Kind(
    *("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    namespaced=False,
)

ALL = (
    *(PODS, NODES, NAMESPACES, SECRETS, CONFIG_MAPS, SERVICES, EVENTS, ACCOUNTS, CLAIMS, VOLUMES),
    *(
        QUOTAS,
        LIMIT_RANGES,
        DEPLOYMENTS,
        LEASES,
        RUNTIME_CLASSES,
        STORAGE_CLASSES,
        NETWORK_POLICIES,
    ),
    *(ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, SECURITY_POLICIES),
    *(ACCESS_REVIEWS, RULES_REVIEWS),
)
_BY_NAME = {(kind.group, kind.version, kind.plural): kind for kind in ALL}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a path points at. `kind` is None for a resource that is not simulated: rights are
    judged before existence, as on a real server."""

    group: str
    plural: str
    namespace: str
    name: str
    subresource: str
    kind: Kind | None

    @property
    def resource(self) -> str:
        """With its subresource, as roles name it."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def target_of(path: str) -> Target | None:
    """The resource that `path` names, or None for a path outside /api and /apis."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in NAMESPACES.subresources:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    kind = _BY_NAME.get((group, version, plural))
    if rest[0] == "namespaces" and kind is NAMESPACES:
        namespace = name  # as real servers: rights on a namespace may be given inside it
    return Target(group, plural, namespace, name, subresource, kind)
