"""Every call that the product makes to a cluster, by name, as its loops and probes make them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from provisioner.kube.questions import KubernetesQuestions
from provisioner.kube.transport import Cut

SPACE, NAME = "gpuyard-r-01", "gy-hostile"
# Of a watch or a log that is followed: asked for in minutes elsewhere.
_SECONDS = 3.0
_POD: dict[str, Any] = {"metadata": {"name": NAME}, "spec": {"containers": []}}
_CLAIM: dict[str, Any] = {"metadata": {"name": NAME}}

Call = Callable[[KubernetesQuestions], object]


def _all(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def _log(api: KubernetesQuestions) -> object:
    return api.pod_log(
        *(SPACE, NAME),
        container="main",
        tail_lines=100,
        limit_bytes=65536,
        previous=False,
        since=None,
        seconds=_SECONDS,
    )


def _follow(api: KubernetesQuestions) -> None:
    pieces = api.follow_log(
        *(SPACE, NAME),
        container="main",
        tail_lines=10,
        since=None,
        silence=_SECONDS,
        seconds=_SECONDS,
        cut=Cut(),
    )
    _all(pieces)


CALLS: dict[str, Call] = {
    "version": lambda api: api.server_version(),
    "list nodes": lambda api: api.list_nodes(),
    "list pods": lambda api: api.list_pods(SPACE),
    "watch pods": lambda api: _all(api.watch_pods(SPACE, "1", silence=2.0, seconds=_SECONDS)),
    "create pod": lambda api: api.create_pod(SPACE, _POD),
    "get pod": lambda api: api.get_pod(SPACE, NAME),
    "delete pod": lambda api: api.delete_pod(SPACE, NAME, uid="u", grace=1),
    "create secret": lambda api: api.create_secret(SPACE, {"metadata": {"name": NAME}}),
    "delete secret": lambda api: api.delete_secret(SPACE, NAME),
    "create claim": lambda api: api.create_claim(SPACE, _CLAIM),
    "get claim": lambda api: api.get_claim(SPACE, NAME),
    "patch claim": lambda api: api.patch_claim(SPACE, NAME, _CLAIM),
    "delete claim": lambda api: api.delete_claim(SPACE, NAME, uid=None),
    "list claims": lambda api: api.list_claims(SPACE),
    "storage classes": lambda api: api.list_storage_classes(),
    "create lease": lambda api: api.create_lease(SPACE, _CLAIM),
    "read lease": lambda api: api.lease_version(SPACE, NAME),
    "replace lease": lambda api: api.replace_lease(SPACE, _CLAIM),
    "delete lease": lambda api: api.delete_lease(SPACE, NAME),
    "reaper's lease": lambda api: api.reaper_lease(),
    "read log": _log,
    "follow log": _follow,
    "may create pods": lambda api: api.may_create_pods(SPACE),
    "renew token": lambda api: api.renew_token(seconds=3600),
    "every node": lambda api: _all(api.every_node()),
    "access review": lambda api: api.allowed("get", "secrets", group="", namespace=SPACE),
    "rules review": lambda api: api.rules_in(SPACE),
    "dry run": lambda api: api.try_pod(SPACE, _POD),
    "policies": lambda api: api.list_network_policies(SPACE),
}
# A walk of many calls, page by page, with an end of its own (kube/questions.py).
WALKS = frozenset({"every node"})
