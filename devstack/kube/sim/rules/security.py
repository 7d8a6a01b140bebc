"""PodSecurityPolicy admission: which pods a policy lets in, and what it says of the others. Pure.

The fields that the provider bundle's policy uses are judged; one that uses others (ranges of users,
SELinux, sysctls, allowed host paths or ports) is not simulated and refuses every pod, visibly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Json = dict[str, Any]

_JUDGED = frozenset(
    {
        *("privileged", "hostPID", "hostIPC", "hostNetwork", "volumes", "allowedCapabilities"),
        *("allowPrivilegeEscalation", "runAsUser", "runAsGroup", "supplementalGroups", "fsGroup"),
        "seLinux",
    }
)
_FREE = frozenset({"runAsUser", "runAsGroup", "supplementalGroups", "fsGroup", "seLinux"})
_SECCOMP = "seccomp.security.alpha.kubernetes.io/allowedProfileNames"
_PROFILES = {"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"}


def refusal(policies: Sequence[Json], pod: Json) -> str | None:
    """None when one policy lets the pod in, else what all of them say, as the server words it."""
    found = [list(_violations(policy, pod["spec"])) for policy in policies]
    if any(not violations for violations in found):
        return None
    said = [text for violations in found for text in violations]
    return f"PodSecurityPolicy: unable to admit pod: [{' '.join(said)}]"


def containers(spec: Json) -> Iterator[tuple[str, Json]]:
    """All containers with the path by which messages name them."""
    for field in ("initContainers", "containers"):
        for position, container in enumerate(spec.get(field) or []):
            yield f"spec.{field}[{position}]", container


def _violations(policy: Json, spec: Json) -> Iterator[str]:
    rules = policy["spec"]
    unknown = set(rules) - _JUDGED | {
        key for key in _FREE if rules.get(key, {}).get("rule", "RunAsAny") != "RunAsAny"
    }
    if unknown:
        yield f"spec: the simulated server cannot judge {', '.join(sorted(unknown))}"
    host = "spec.securityContext"
    for field, text in (("hostNetwork", "Host network"), ("hostPID", "Host PID")):
        if spec.get(field) and not rules.get(field):
            yield f"{host}.{field}: Invalid value: true: {text} is not allowed to be used"
    if spec.get("hostIPC") and not rules.get("hostIPC"):
        yield f"{host}.hostIPC: Invalid value: true: Host IPC is not allowed to be used"
    yield from _volumes(rules.get("volumes") or [], spec.get("volumes") or [])
    profiles = policy["metadata"].get("annotations", {}).get(_SECCOMP, "").split(",")
    pod_seccomp = (spec.get("securityContext") or {}).get("seccompProfile")
    for path, container in containers(spec):
        yield from _container(rules, path, container)
        context = container.get("securityContext") or {}
        yield from _seccomp(profiles, path, context.get("seccompProfile") or pod_seccomp)


def _volumes(kinds: Iterable[str], volumes: Sequence[Json]) -> Iterator[str]:
    allowed = set(kinds)
    for position, volume in enumerate(volumes):
        for source in set(volume) - {"name"}:
            if source not in allowed and "*" not in allowed:
                yield (
                    f'spec.volumes[{position}]: Invalid value: "{source}": '
                    f"{source} volumes are not allowed to be used"
                )


def _container(rules: Json, path: str, container: Json) -> Iterator[str]:
    context = container.get("securityContext") or {}
    if context.get("privileged") and not rules.get("privileged"):
        yield (
            f"{path}.securityContext.privileged: Invalid value: true: "
            "Privileged containers are not allowed"
        )
    allowed = set(rules.get("allowedCapabilities") or [])
    for capability in (context.get("capabilities") or {}).get("add") or []:
        if capability not in allowed and "*" not in allowed:
            yield (
                f'{path}.securityContext.capabilities.add: Invalid value: "{capability}": '
                "capability may not be added"
            )
    for port in container.get("ports") or []:
        if number := port.get("hostPort"):
            yield (
                f"{path}.hostPort: Invalid value: {number}: "
                f"Host port {number} is not allowed to be used. Allowed ports: []"
            )


def _seccomp(profiles: Sequence[str], path: str, profile: Json | None) -> Iterator[str]:
    if profile is None:
        return  # the policy's default applies
    name = _PROFILES.get(profile["type"], profile["type"])
    if name not in profiles and "*" not in profiles:
        yield f"{path}.securityContext.seccompProfile: Forbidden: {name} is not an allowed profile"
