"""A storage system for clusters without one: makes, enlarges and removes PersistentVolumes.

The bare control plane binds claims to volumes that exist and makes none. This thread is the
external provisioner that real clusters have: it follows the claims of one storage class, makes a
volume for each (on the node that the scheduler chose, where the class is local), grows it when the
claim asks for more, and deletes it once it is released. For simulated nodes it stores nothing; for
a real one each volume is a folder of its disk, which goes with the volume.

Orders for faults: slow_bind (waits that long before it makes the volume) and bind_error (makes none
and says so in an event on the claim).
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from devstack.kube.api import MERGE, Api, ApiError, Json
from devstack.kube.faults import Orders
from devstack.kube.podstatus import timestamp

_FILE = Path(__file__).with_name("storage.toml")
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
# Looks without news from the watch: a fault's end and a volume's release come without any.
_LOOK_S, _LOOK_SOON_S = 5.0, 0.3
_WATCH_SECONDS = 120
_RETRY_S = 0.5


@dataclasses.dataclass(frozen=True)
class StorageClass:
    """`local`: volumes lie on one node each."""

    name: str
    provisioner: str
    binding: str
    local: bool

    def body(self) -> Json:
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": self.name, "labels": {"gpuyard.io/storage": "true"}},
            "provisioner": self.provisioner,
            "volumeBindingMode": self.binding,
            "reclaimPolicy": "Delete",
            "allowVolumeExpansion": True,
        }


def load_storage(fleet: str) -> StorageClass | None:
    """The class that goes with a fleet preset; None for a fleet without storage."""
    fields = tomllib.loads(_FILE.read_text()).get(fleet)
    return StorageClass(**fields) if fields else None


class StorageSim:
    """The provisioner of one class. `start` returns once the class exists. `disks`: where a real
    node keeps its volumes."""

    def __init__(
        self,
        kind: StorageClass,
        *,
        api: Api,
        orders: Orders,
        say: Callable[[str], None],
        disks: Path | None = None,
    ) -> None:
        self._kind = kind
        self._api = api
        self._orders = orders
        self._say = say
        self._disks = disks
        self._news = threading.Event()
        self._ended = threading.Event()
        self._seen: dict[str, float] = {}  # claim's UID -> when it could be bound first
        self._told: set[str] = set()  # claims whose error is in an event already

    def start(self) -> None:
        try:
            self._api.post(_CLASSES, self._kind.body())
        except ApiError as error:
            if error.status == 404:
                self._say("the server has no storage classes; there will be no volumes")
                return
            if error.status != 409:  # it is there from before a restart
                raise
        threading.Thread(target=self._watch, name="claims", daemon=True).start()
        threading.Thread(target=self._work, name="storage", daemon=True).start()

    def stop(self) -> None:
        """Makes no volume and removes none any more; what is there stays."""
        self._ended.set()
        self._news.set()

    # -- following -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Only wakes the worker, which looks at everything again: nothing can be missed."""
        while not self._ended.is_set():
            try:
                version = self._api.get(_CLAIMS, limit="1")["metadata"]["resourceVersion"]
                self._news.set()
                for _ in self._api.watch(
                    _CLAIMS,
                    silence_s=_WATCH_SECONDS + 30,
                    resourceVersion=version,
                    timeoutSeconds=str(_WATCH_SECONDS),
                ):
                    self._news.set()
            except (ApiError, OSError) as error:
                self._say(f"watching claims: {error!r}")
                time.sleep(_RETRY_S)

    def _work(self) -> None:
        rest = 0.0
        while not self._ended.is_set():
            self._news.wait(rest)
            self._news.clear()
            try:
                rest = _LOOK_SOON_S if self._look() else _LOOK_S
            except (ApiError, OSError) as error:  # the next look tries again
                self._say(f"storage: {error!r}")
                rest = _RETRY_S

    def _look(self) -> bool:
        """One pass over claims and volumes; True when something is under way."""
        volumes = {
            item["metadata"]["name"]: item
            for item in self._api.get(_VOLUMES)["items"]
            if item["metadata"].get("annotations", {}).get(_PROVISIONED_BY)
            == self._kind.provisioner
        }
        busy = False
        for claim in self._api.get(_CLAIMS)["items"]:
            if claim["spec"].get("storageClassName") != self._kind.name:
                continue
            volume = volumes.pop(volume_name(claim), None)
            if volume is None:
                busy |= self._provision(claim)
            elif claim["status"].get("phase") == "Bound":
                busy |= self._grow(claim, volume)
            else:
                busy = True
        for name, volume in volumes.items():  # no claim of theirs is left
            busy = True
            if volume["status"].get("phase") in {"Released", "Failed"}:
                if self._disks:
                    shutil.rmtree(self._disks / name, ignore_errors=True)
                self._api.delete(f"{_VOLUMES}/{name}")
        return busy

    # -- acting ----------------------------------------------------------------------------------

    def _provision(self, claim: Json) -> bool:
        """Make the claim's volume unless it must wait; True when it is to be looked at again."""
        metadata = claim["metadata"]
        node = metadata.get("annotations", {}).get(_SELECTED_NODE, "")
        waits = self._kind.binding == "WaitForFirstConsumer"
        if "deletionTimestamp" in metadata or (waits and not node):
            return False
        began = self._seen.setdefault(metadata["uid"], time.monotonic())
        error = self._orders.for_claim("bind_error", metadata)
        if error is not None:
            if metadata["uid"] not in self._told:
                self._told.add(metadata["uid"])
                self._tell(claim, error.params["message"])
            return True
        slow = self._orders.for_claim("slow_bind", metadata)
        if slow is not None and time.monotonic() - began < slow.params["seconds"]:
            return True
        self._api.post(_VOLUMES, self._volume(claim, node))
        return True

    def _volume(self, claim: Json, node: str) -> Json:
        metadata = claim["metadata"]
        asked = claim["spec"]["resources"]["requests"]["storage"]
        spec: Json = {
            "capacity": {"storage": asked},
            "accessModes": claim["spec"]["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": self._kind.name,
            **self._source(claim),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        if self._kind.local:
            term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
            required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
            spec["nodeAffinity"] = {"required": required}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": volume_name(claim),
                "annotations": {_PROVISIONED_BY: self._kind.provisioner},
            },
            "spec": spec,
        }

    def _source(self, claim: Json) -> Json:
        if self._disks is None:
            handle = claim["metadata"]["uid"]
            return {"csi": {"driver": self._kind.provisioner, "volumeHandle": handle}}
        place = str(self._disks / volume_name(claim))
        return {"hostPath": {"path": place, "type": "DirectoryOrCreate"}}

    def _grow(self, claim: Json, volume: Json) -> bool:
        asked = claim["spec"]["resources"]["requests"]["storage"]
        if claim["status"].get("capacity", {}).get("storage") == asked:
            return False
        capacity = {"capacity": {"storage": asked}}
        path = f"{_VOLUMES}/{volume['metadata']['name']}"
        self._api.patch(path, {"spec": capacity}, MERGE)
        metadata = claim["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims"
        self._api.patch(f"{path}/{metadata['name']}/status", {"status": capacity}, MERGE)
        return True

    def _tell(self, claim: Json, message: str) -> None:
        """The event that a real provisioner leaves on a claim it cannot serve."""
        metadata, now = claim["metadata"], timestamp()
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{metadata['uid'][:8]}"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": message,
            "source": {"component": self._kind.provisioner},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._api.post(f"/api/v1/namespaces/{metadata['namespace']}/events", body)


def volume_name(claim: Json) -> str:
    """As external provisioners do: from the UID, so a repeated create meets its own."""
    return f"pvc-{claim['metadata']['uid']}"
