"""List, then watch from there: one namespace's pods as a stream of sightings that never gaps
silently.

A watch that ends is opened again from its last resourceVersion; one whose version is too old (410)
or that broke starts over with a list, and what that list shows counts as seen blindly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from provisioner.kube.api import ClusterApi
from provisioner.kube.client import Json, mapping
from provisioner.kube.errors import Rejected, Unsure

# Servers send a bookmark about every minute. A stream that is silent for longer is dead although
# its connection stands; shorter would cut quiet ones.
SILENCE = 90.0
# Asked of the server, so that a stream ends in order and its load spreads over replicas.
WATCH_SECONDS = 300.0


@dataclass(frozen=True)
class Seen:
    """kind: ADDED, MODIFIED, DELETED. blind: from a list, so what lay between was not watched."""

    kind: str
    pod: Json = field(default_factory=dict)
    blind: bool = False


def follow(api: ClusterApi, namespace: str) -> Iterator[Seen]:
    """Sightings until the cluster fails; raises the errors of kube/errors.py."""
    while True:
        pods, version = api.list_pods(namespace)
        for pod in pods:
            yield Seen("ADDED", pod, blind=True)
        yield from _watch_from(api, namespace, version)


def _watch_from(api: ClusterApi, namespace: str, version: str) -> Iterator[Seen]:
    """Events after ``version``, over as many watches as it takes; returns when a new list is
    needed."""
    while version:
        try:
            for event in api.watch_pods(namespace, version, silence=SILENCE, seconds=WATCH_SECONDS):
                kind, pod = str(event.get("type")), mapping(event.get("object"))
                if kind == "ERROR":
                    if pod.get("code") == 410:
                        return
                    raise Unsure("server_error", f"the watch reports {pod.get('reason')!r}"[:200])
                version = str(mapping(pod.get("metadata")).get("resourceVersion", "")) or version
                if kind in ("ADDED", "MODIFIED", "DELETED"):
                    yield Seen(kind, pod)
        except Rejected as error:
            if error.code != "expired":
                raise
            return
