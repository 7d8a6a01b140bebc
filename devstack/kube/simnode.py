"""One simulated node: its object, lease, cards, addresses and pods' events.

The node object carries what a kubelet of the server's own version writes, with the labels that the
vendor's labeller adds. Shared state is guarded by one lock per node.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from devstack.kube.api import MERGE, STRATEGIC_MERGE, Api, ApiError, Json
from devstack.kube.devices import DeviceBook
from devstack.kube.faults import Orders
from devstack.kube.fleet import Machine
from devstack.kube.podstatus import micro_timestamp, timestamp

if TYPE_CHECKING:
    from devstack.kube.podlife import Pod

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LEASE_SECONDS = 40

# Condition -> reason while all is well.
_PRESSURES = {
    "MemoryPressure": "KubeletHasSufficientMemory",
    "DiskPressure": "KubeletHasNoDiskPressure",
    "PIDPressure": "KubeletHasSufficientPID",
}


class SimNode:
    """`events` takes (path, body) pairs that somebody posts later; `say` logs a line."""

    def __init__(
        self,
        cluster: str,
        machine: Machine,
        *,
        api: Api,
        orders: Orders,
        events: queue.SimpleQueue[tuple[str, Json] | None],
        say: Callable[[str], None],
        kubelet_version: str,
        kubelet_port: int,
    ) -> None:
        self.machine = machine
        self.api = api
        self.orders = orders
        self.say = say
        self.images: set[str] = set()
        self._pods: dict[str, Pod] = {}
        self._events = events
        self._event_numbers = itertools.count(1)
        self._version = kubelet_version
        self._kubelet_port = kubelet_port
        self._lock = threading.Lock()
        self._books = {
            card.resource: DeviceBook(machine.device_uids(cluster, card))
            for card, _ in machine.kinds
        }
        # A network of its own for each cluster, from its name; a /24 of it for each node.
        second = hashlib.sha256(cluster.encode()).digest()[0] % 64
        self.address = f"10.{second}.0.{machine.number + 10}"
        self._network = ipaddress.ip_network(f"10.{second + 128}.{machine.number}.0/24")
        self._ips: dict[str, str] = {}
        self._ready_since = timestamp()

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self.machine.name}"

    # -- the node's own objects ------------------------------------------------------------------

    def register(self) -> None:
        """Create the node, or bring labels, taints and status of an existing one up to date."""
        machine = self.machine
        body: Json = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": machine.name, "labels": machine.labels()},
            "spec": {
                "taints": machine.taints(),
                "podCIDR": str(self._network),
                "providerID": f"simulated://{machine.name}",
            },
            "status": self.status(),
        }
        try:
            self.api.post("/api/v1/nodes", body)
        except ApiError as error:
            if error.status != 409:
                raise
            # Labels alone: taints of the node controller are lifted by it, and ours stayed.
            labels = {"metadata": {"labels": machine.labels()}}
            self.api.patch(self.path, labels, STRATEGIC_MERGE)
            self.report()
        self.renew_lease()

    def report(self) -> None:
        """Write the node's status, as after a change or after silence."""
        self.api.patch(f"{self.path}/status", {"status": self.status()}, STRATEGIC_MERGE)

    def renew_lease(self) -> None:
        name = self.machine.name
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS}
        body: Json = {"spec": {**spec, "renewTime": micro_timestamp()}}
        try:
            self.api.patch(f"{_LEASES}/{name}", body, MERGE)
        except ApiError as error:
            if error.status != 404:
                raise
            head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            self.api.post(_LEASES, {**head, "metadata": {"name": name}, **body})

    def status(self) -> Json:
        now = timestamp()
        conditions = [
            {
                "type": kind,
                "status": "False",
                "reason": reason,
                "message": f"kubelet has no {kind}",
                "lastHeartbeatTime": now,
                "lastTransitionTime": self._ready_since,
            }
            for kind, reason in _PRESSURES.items()
        ]
        conditions.append(
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": now,
                "lastTransitionTime": self._ready_since,
            }
        )
        with self._lock:
            healthy = {name: book.healthy_count() for name, book in self._books.items()}
        machine = self.machine
        identity = hashlib.md5(machine.name.encode(), usedforsecurity=False).hexdigest()
        return {
            "capacity": machine.capacity(),
            "allocatable": machine.allocatable(healthy),
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": machine.name},
                # Where API servers find this node's log endpoint; the others lead nowhere.
                {"type": "ExternalIP", "address": "127.0.0.1"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._kubelet_port}},
            "nodeInfo": {
                "architecture": machine.card.arch,
                "bootID": identity,
                "machineID": identity,
                "systemUUID": identity,
                "containerRuntimeVersion": "containerd://1.6.20",
                "kernelVersion": "5.15.0-91-generic",
                "kubeProxyVersion": self._version,
                "kubeletVersion": self._version,
                "operatingSystem": "linux",
                "osImage": "Ubuntu 22.04.4 LTS",
            },
        }

    # -- faults ----------------------------------------------------------------------------------

    def silent(self) -> bool:
        return self.orders.for_node("silent_node", self.machine.name) is not None

    def apply_orders(self) -> None:
        """Bring the cards' health in line with the standing orders and report a change."""
        order = self.orders.for_node("lost_gpu", self.machine.name)
        with self._lock:
            book = self._books[self.machine.card.resource]
            before = book.healthy_count()
            broken = book.devices[: order.params["cards"]] if order else []
            book.set_unhealthy([device.uid for device in broken])
            changed = book.healthy_count() != before
        if changed and not self.silent():
            self.report()

    # -- what pods take --------------------------------------------------------------------------

    def add(self, pod: Pod) -> None:
        """A pod was bound to this node."""
        with self._lock:
            self._pods[pod.uid] = pod

    def pods(self) -> list[Pod]:
        with self._lock:
            return list(self._pods.values())

    def give(self, pod: Pod, resource: str, count: int, preferred: Sequence[str]) -> None:
        """Allocate cards to a pod. Raises NoDevicesError."""
        with self._lock:
            self._books[resource].allocate(pod.uid, count, preferred)

    def devices_of(self, pod: Pod) -> list[str]:
        with self._lock:
            return [uid for book in self._books.values() for uid in book.held_by(pod.uid)]

    def take_ip(self, pod: Pod) -> str:
        """A free address of the node's network; the first is the gateway's."""
        with self._lock:
            taken = set(self._ips.values())
            free = (str(host) for host in itertools.islice(self._network.hosts(), 1, None))
            self._ips[pod.uid] = pod.ip or next(ip for ip in free if ip not in taken)
            return self._ips[pod.uid]

    def release_devices(self, pod: Pod) -> None:
        with self._lock:
            for book in self._books.values():
                book.release(pod.uid)

    def forget(self, pod: Pod) -> None:
        """The pod's object is gone: all it held is free."""
        with self._lock:
            for book in self._books.values():
                book.release(pod.uid)
            self._ips.pop(pod.uid, None)
            self._pods.pop(pod.uid, None)

    def snapshot(self) -> Json:
        """For the control port: cards with health and holder, and the pods."""
        with self._lock:
            return {
                "name": self.machine.name,
                "card": self.machine.card.name,
                "resource": self.machine.card.resource,
                "devices": [
                    vars(device).copy() for book in self._books.values() for device in book.devices
                ],
                "pods": {
                    uid: f"{pod.metadata['namespace']}/{pod.metadata['name']}"
                    for uid, pod in self._pods.items()
                },
            }

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Queue an event about a pod, as the kubelet emits it."""
        namespace, name = pod.metadata["namespace"], pod.metadata["name"]
        now = timestamp()
        number = next(self._event_numbers)
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{pod.uid[:8]}.{number:x}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": name,
                "uid": pod.uid,
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self.machine.name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._events.put((f"/api/v1/namespaces/{namespace}/events", body))
