"""Claims and volumes: the binder of the controller manager and the scheduler's part in it.

Volumes are made by somebody else, as on a real cluster: a provisioner, or whoever creates them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from devstack.kube.sim import kinds
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules.quantities import milli
from devstack.kube.sim.store import Change, Store, Stored
from devstack.kube.sim.strategies import PROTECTED

Json = dict[str, Any]

SELECTED_NODE = "volume.kubernetes.io/selected-node"


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a pod's claims ask of a node. `missing`: why no node is looked for yet. `unbound`:
    claims whose volume is made when a node was chosen. `terms`: where the bound ones can be
    reached, one list of node selector terms for each."""

    missing: str = ""
    unbound: Sequence[Stored] = ()
    terms: Sequence[Sequence[Json]] = ()


class Claims:
    """`run` binds and releases; callers hold the store's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.dirty = False
        store.listen(self._heard)

    def needs_of(self, pod: Stored) -> Needs:
        unbound: list[Stored] = []
        terms: list[Sequence[Json]] = []
        for name in _claims_of(pod.body):
            claim = self._store.get(kinds.CLAIMS, pod.namespace, name)
            if claim is None:
                return Needs(f'persistentvolumeclaim "{name}" not found')
            if "deletionTimestamp" in claim.metadata:
                return Needs(f'persistentvolumeclaim "{name}" is being deleted')
            if claim.body["status"]["phase"] == "Bound":
                terms.extend(self._reach_of(claim))
            elif self._waits_for_consumer(claim):
                unbound.append(claim)
            else:
                nodes = len(self._store.list(kinds.NODES))
                why = "pod has unbound immediate PersistentVolumeClaims"
                return Needs(f"0/{nodes} nodes are available: {nodes} {why}.")
        return Needs(unbound=unbound, terms=terms)

    def select_node(self, unbound: Sequence[Stored], node: str) -> None:
        """Tell the provisioner where the pod will run."""
        for claim in unbound:
            annotations = {**(claim.metadata.get("annotations") or {}), SELECTED_NODE: node}
            body = {**claim.body, "metadata": {**claim.metadata, "annotations": annotations}}
            self._store.replace(kinds.CLAIMS, claim, body)

    def run(self) -> None:
        self.dirty = False
        volumes = self._store.list(kinds.VOLUMES)
        for claim in self._store.list(kinds.CLAIMS):
            if "deletionTimestamp" in claim.metadata:
                self._let_go(claim)
            elif claim.body["status"]["phase"] == "Pending":
                fitting = [each for each in volumes if self._fits(each, claim)]
                if fitting:
                    self._bind(claim, min(fitting, key=lambda each: (_size(each), each.name)))
                    volumes = self._store.list(kinds.VOLUMES)
        for volume in self._store.list(kinds.VOLUMES):
            self._release(volume)

    def _heard(self, kind: Kind, change: Change) -> None:
        pod_gone = kind is kinds.PODS and change.type == "DELETED" and _claims_of(change.new.body)
        if kind in {kinds.CLAIMS, kinds.VOLUMES} or pod_gone:
            self.dirty = True

    def _waits_for_consumer(self, claim: Stored) -> bool:
        name = claim.body["spec"].get("storageClassName", "")
        found = self._store.get(kinds.STORAGE_CLASSES, "", name)
        return found is not None and found.body.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _reach_of(self, claim: Stored) -> list[Sequence[Json]]:
        volume = self._store.get(kinds.VOLUMES, "", claim.body["spec"]["volumeName"])
        required = ((volume.body if volume else {}).get("spec", {}).get("nodeAffinity") or {}).get(
            "required"
        )
        return [required["nodeSelectorTerms"]] if required else []

    def _fits(self, volume: Stored, claim: Stored) -> bool:
        spec, wanted = volume.body["spec"], claim.body["spec"]
        reserved = spec.get("claimRef")
        if reserved is not None:
            named = (reserved.get("namespace"), reserved.get("name"))
            uid = claim.metadata["uid"]
            return named == (claim.namespace, claim.name) and reserved.get("uid", uid) == uid
        return (
            not self._waits_for_consumer(claim)
            and spec.get("storageClassName", "") == wanted.get("storageClassName", "")
            and set(wanted["accessModes"]) <= set(spec["accessModes"])
            and _size(volume) >= milli(wanted["resources"]["requests"]["storage"])
        )

    def _bind(self, claim: Stored, volume: Stored) -> None:
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.metadata["uid"],
        }
        spec = {**volume.body["spec"], "claimRef": reference}
        taken = {**volume.body, "spec": spec, "status": {"phase": "Bound"}}
        self._store.replace(kinds.VOLUMES, volume, taken)
        status = {
            "phase": "Bound",
            "accessModes": spec["accessModes"],
            "capacity": spec["capacity"],
        }
        bound = {**claim.body["spec"], "volumeName": volume.name}
        self._store.replace(kinds.CLAIMS, claim, {**claim.body, "spec": bound, "status": status})

    def _let_go(self, claim: Stored) -> None:
        """A claim whose deletion was asked for goes when no pod uses it any more."""
        for pod in self._store.list(kinds.PODS, claim.namespace):
            if claim.name in _claims_of(pod.body):
                return
        rest = [each for each in claim.metadata.get("finalizers") or [] if each != PROTECTED]
        if not rest:
            self._store.remove(kinds.CLAIMS, claim)
        elif PROTECTED in claim.metadata["finalizers"]:
            metadata = {**claim.metadata, "finalizers": rest}
            self._store.replace(kinds.CLAIMS, claim, {**claim.body, "metadata": metadata})

    def _release(self, volume: Stored) -> None:
        """A volume whose claim is gone keeps its data until somebody deletes it."""
        reference = volume.body["spec"].get("claimRef")
        phase = volume.body.get("status", {}).get("phase")
        if phase == "Bound" and reference is not None:
            claim = self._store.get(kinds.CLAIMS, reference["namespace"], reference["name"])
            if claim is None or claim.metadata["uid"] != reference["uid"]:
                released = {**volume.body, "status": {"phase": "Released"}}
                self._store.replace(kinds.VOLUMES, volume, released)
        elif phase is None:
            available = {**volume.body, "status": {"phase": "Available"}}
            self._store.replace(kinds.VOLUMES, volume, available)


def _claims_of(pod: Json) -> list[str]:
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    ]


def _size(volume: Stored) -> int:
    return milli(volume.body["spec"]["capacity"]["storage"])
