"""What happens between a right to create and the creation: namespace, account, policy, quota."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from devstack.kube.sim import kinds
from devstack.kube.sim.errors import forbidden, not_found
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules import quota, rbac, security
from devstack.kube.sim.rules.rbac import Attributes, Roles, User
from devstack.kube.sim.store import Store

Json = dict[str, Any]

_SERVICES = ipaddress.ip_network("10.96.0.0/16")
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def roles_in(store: Store) -> Roles:
    """The stored roles, as the rules read them."""

    def found(kind: Kind, namespace: str, name: str) -> Json | None:
        stored = store.get(kind, namespace, name)
        return stored.body if stored else None

    return Roles(
        bindings=lambda space: [each.body for each in store.list(kinds.ROLE_BINDINGS, space)],
        cluster_bindings=lambda: [each.body for each in store.list(kinds.CLUSTER_ROLE_BINDINGS)],
        role=lambda space, name: found(kinds.ROLES, space, name),
        cluster_role=lambda name: found(kinds.CLUSTER_ROLES, "", name),
    )


def check_namespace(store: Store, kind: Kind, namespace: str, name: str) -> None:
    """Raises StatusError when the namespace is not there or is being deleted."""
    stored = store.get(kinds.NAMESPACES, "", namespace)
    if stored is None:
        raise not_found("namespaces", namespace)
    if stored.body["status"]["phase"] == "Terminating":
        why = f"unable to create new content in namespace {namespace} because it is being "
        raise forbidden(kind.key, name, why + "terminated")


def check_pod(store: Store, user: User, pod: Json) -> None:
    """The pod's account exists and a policy that it or its creator may use lets it in. Raises
    StatusError."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"].get("name", "")
    account = pod["spec"]["serviceAccountName"]
    if store.get(kinds.ACCOUNTS, namespace, account) is None:
        why = (
            f"error looking up service account {namespace}/{account}: "
            f'serviceaccount "{account}" not found'
        )
        raise forbidden("pods", name, why)
    roles = roles_in(store)
    identities = (user, User(f"system:serviceaccount:{namespace}:{account}"))
    usable = [
        stored.body
        for stored in store.list(kinds.SECURITY_POLICIES)
        for use in [Attributes("use", "policy", "podsecuritypolicies", namespace, stored.name)]
        if any(rbac.allowed(identity, use, roles) for identity in identities)
    ]
    refused = security.refusal(usable, pod)
    if refused is not None:
        raise forbidden("pods", name, refused)


def with_default_class(store: Store, claim: Json) -> Json:
    """A claim that names no class gets the cluster's default one, where there is one."""
    if "storageClassName" in claim["spec"]:
        return claim
    for stored in store.list(kinds.STORAGE_CLASSES):
        if (stored.metadata.get("annotations") or {}).get(_DEFAULT_CLASS) == "true":
            return {**claim, "spec": {**claim["spec"], "storageClassName": stored.name}}
    return claim


def with_address(store: Store, service: Json) -> Json:
    """A service that names no address gets one of the cluster's that is free."""
    if service["spec"].get("clusterIP") is not None or service["spec"]["type"] == "ExternalName":
        return service
    taken = {each.body["spec"].get("clusterIP") for each in store.list(kinds.SERVICES)}
    address = next(str(host) for host in _SERVICES.hosts() if str(host) not in taken)
    return {**service, "spec": {**service["spec"], "clusterIP": address}}


def check_quota(store: Store, kind: Kind, body: Json) -> None:
    """Raises StatusError when a quota of the namespace has no room for one more."""
    namespace = body["metadata"]["namespace"]
    asked = quota.charged(kind.key, body)
    for stored in store.list(kinds.QUOTAS, namespace):
        if not set(asked) & set(stored.body["spec"].get("hard", {})):
            continue
        name = str(body["metadata"]["name"])
        used = used_in(store, namespace, (kind,))
        refused = quota.exceeded(stored.body, kind.key, name, asked, used)
        if refused is not None:
            raise refused


def used_in(store: Store, namespace: str, counted: Iterable[Kind]) -> dict[str, int]:
    """How much of what quotas can name is there, of these kinds."""
    used: dict[str, int] = {}
    for kind in counted:
        for stored in store.list(kind, namespace):
            for key, count in quota.charged(kind.key, stored.body).items():
                used[key] = used.get(key, 0) + count
    return used
