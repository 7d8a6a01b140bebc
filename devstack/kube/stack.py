"""Clusters as the platform meets them: control plane, simulated nodes, provider bundle, token.

stack = KubeStack(folder, names=["dc-owned", "dc-partner"])
stack.start()
cluster = stack.clusters["dc-owned"]  # .api_url .ca_pem .token .admin_kubeconfig ...
stack.stop()
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

from devstack.console import say
from devstack.kube.api import Api
from devstack.kube.binaries import Binaries, find_binaries
from devstack.kube.controlplane import ControlPlane
from devstack.kube.faults import Orders
from devstack.kube.node.cards import Group
from devstack.kube.node.node import RealNode
from devstack.kube.provision import provision
from devstack.kube.reaper import reaper_command
from devstack.kube.storagesim import StorageSim, load_storage
from devstack.podtools import build_podtools
from devstack.ports import free_port, release
from devstack.process import Child, Supervisor, answers_at, wait_until
from devstack.state import State

DEFAULT_NAMES = ("dc-owned", "dc-partner")
_POLL_S = 0.2
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A running cluster. The first three are all that the platform may see."""

    api_url: str
    ca_pem: str
    token: str = dataclasses.field(repr=False)
    name: str
    version: str  # of the server, as in v1.20.2
    admin_kubeconfig: str  # path
    sim_control_url: str  # "" where no node is simulated
    namespaces: int  # size of the rental pool
    node_address: str = ""  # of the real node, where its pods reach this machine
    images: dict[str, str] = dataclasses.field(default_factory=dict)  # on the real node, by digest

    def admin(self) -> Api:
        """A client with all rights."""
        return Api.from_kubeconfig(Path(self.admin_kubeconfig))

    def tenant(self) -> Api:
        """A client with the platform's minimal rights."""
        return Api(self.api_url, self.ca_pem, token=self.token)


class KubeStack:
    """Clusters `names` with their files below `folder`, which it owns while it runs.

    `fleets`: fleet preset or file by name; by default the preset called like the cluster.
    `real`: of them those with one real node instead of a simulated fleet (node/able.py says whether
    this machine can). `heartbeat_s` and `node_grace_s` (s): how often nodes report and after which
    silence they are Unknown; real clusters have 10 and 40.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: Sequence[str] = DEFAULT_NAMES,
        fleets: Mapping[str, str] | None = None,
        namespaces: int = 16,
        heartbeat_s: float = 10.0,
        node_grace_s: int = 40,
        real: Sequence[str] = (),
    ) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.planes: dict[str, ControlPlane] = {}
        self._folder = folder
        self._names = list(names)
        self._fleets = fleets or {}
        self._namespaces = namespaces
        self._heartbeat_s = heartbeat_s
        self._node_grace_s = node_grace_s
        self._real = frozenset(real)
        self._simulators: dict[str, Child] = {}
        self._reapers: dict[str, Child] = {}
        self._control_ports: dict[str, int] = {}
        self._kubelet_ports: dict[str, int] = {}
        self._state: State | None = None
        self._supervisor: Supervisor | None = None

    def start(self) -> None:
        """Start everything and return when pods can run. A failure stops what had started.

        Raises process.ProcessError, api.ApiError, build.BuildError, state.StateBusyError.
        """
        binaries = find_binaries()
        self._state = State.acquire(self._folder)
        self._supervisor = Supervisor(self._state)
        try:
            self._start_all(binaries.copy_to(self._state.path / "bin"))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all programs and give the folder back; its files stay."""
        self.clusters.clear()
        self._ask_all_to_stop()
        for plane in self.planes.values():
            plane.stop()
        self.planes.clear()
        if self._supervisor:
            self._supervisor.stop()
            self._supervisor = None
        self._simulators.clear()
        self._reapers.clear()
        for ports in (self._control_ports, self._kubelet_ports):
            for port in ports.values():
                release(port)
            ports.clear()
        if self._state:
            self._state.close()
            self._state = None

    def start_simulator(self, name: str) -> None:
        """Bring up the nodes of a cluster; again after `stop_simulator`, their pods go on."""
        assert self._supervisor is not None
        command = [sys.executable, "-m", "devstack.kube.nodesim", "--cluster", name]
        command += ["--kubeconfig", str(self.planes[name].admin_kubeconfig)]
        command += ["--fleet", self._fleets.get(name, name)]
        command += ["--control-port", str(self._control_ports[name])]
        command += ["--kubelet-port", str(self._kubelet_ports[name])]
        command += ["--kubelet-pki", str(self.planes[name].pki)]
        command += ["--heartbeat-s", str(self._heartbeat_s)]
        child = self._supervisor.start(f"{name}-nodesim", command, cwd=_REPOSITORY)
        self._simulators[name] = child
        wait_until(
            answers_at(f"{self._control_url(name)}/healthz"), f"the nodes of {name}", child=child
        )

    def stop_simulator(self, name: str) -> None:
        """All nodes of a cluster fall silent at once, as in a power cut."""
        assert self._supervisor is not None
        self._supervisor.discard(self._simulators.pop(name))

    def start_reaper(self, name: str) -> None:
        """The bundle's reaper as a program with its own account; no pod here really runs."""
        assert self._supervisor is not None
        assert self._state is not None
        command = reaper_command(self.planes[name], self._state.path / name)
        self._reapers[name] = self._supervisor.start(f"{name}-reaper", command)

    def stop_reaper(self, name: str) -> None:
        """Nobody ends pods whose lease runs out until `start_reaper`."""
        assert self._supervisor is not None
        self._supervisor.discard(self._reapers.pop(name))

    def ended(self) -> list[Child]:
        """Programs that ended by themselves: a cluster with one of them is broken."""
        return self._supervisor.ended() if self._supervisor else []

    def describe(self) -> dict[str, dict[str, Any]]:
        """All clusters as plain data, tokens included."""
        return {name: dataclasses.asdict(cluster) for name, cluster in self.clusters.items()}

    def _start_all(self, binaries: Binaries) -> None:
        """All at the same time; on failure or a signal none is left being started."""
        pool = ThreadPoolExecutor(max_workers=len(self._names))
        jobs = [pool.submit(self._start_one, name, binaries) for name in self._names]
        try:
            for job in as_completed(jobs):
                cluster = job.result()
                self.clusters[cluster.name] = cluster
        finally:
            # A start ends as soon as the program it waits for does, and may begin the next one.
            while wait(jobs, timeout=_POLL_S).not_done:
                self._ask_all_to_stop()
            pool.shutdown()

    def _ask_all_to_stop(self) -> None:
        for child in list(self._supervisor.children) if self._supervisor else []:
            child.ask_to_stop()

    def _start_one(self, name: str, binaries: Binaries) -> Cluster:
        assert self._supervisor is not None
        assert self._state is not None
        plane = ControlPlane(
            name,
            self._state.path / name,
            supervisor=self._supervisor,
            binaries=binaries,
            node_grace_s=self._node_grace_s,
        )
        self.planes[name] = plane
        self._control_ports[name] = free_port()
        self._kubelet_ports[name] = free_port()
        plane.start()
        admin = plane.admin()
        if name not in self._real:
            self.start_simulator(name)
        credentials = provision(
            admin, ca_pem=plane.ca_pem, version=plane.version, namespaces=self._namespaces
        )
        self.start_reaper(name)
        node = self._start_node(plane) if name in self._real else None
        wait_until(lambda: _nodes_usable(admin), f"usable nodes in {name}")
        version: str = admin.get("/version")["gitVersion"]
        say(f"cluster {name}: {version} serves at {plane.api_url}")
        return Cluster(
            **dataclasses.asdict(credentials),
            name=name,
            version=version,
            admin_kubeconfig=str(plane.admin_kubeconfig),
            sim_control_url="" if node else self._control_url(name),
            namespaces=self._namespaces,
            node_address=node.address if node else "",
            images=_images(node) if node else {},
        )

    def _start_node(self, plane: ControlPlane) -> RealNode:
        assert self._supervisor is not None
        assert self._state is not None
        folder = self._state.path / plane.name / "node"
        # With each card comes a share of the machine's processors, and test machines have two.
        cards = [Group("h100-sxm", 4)]
        node = RealNode(plane, folder, self._supervisor, cards=cards, cpus=16)
        node.start()
        storage = load_storage(plane.name)
        if storage is not None:
            disks = folder / "disks"
            StorageSim(storage, api=plane.admin(), orders=Orders(), say=say, disks=disks).start()
        return node

    def _control_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._control_ports[name]}"


def _images(node: RealNode) -> dict[str, str]:
    """Given to the node, since it has no registry: the pod tools, and one to rent with."""
    return {"tools": node.tools_image(build_podtools()), "base": node.base_image()}


def _nodes_usable(admin: Api) -> bool:
    """Whether the node controller has seen every node ready and lifted its first taints."""
    nodes = admin.get("/api/v1/nodes")["items"]
    return bool(nodes) and not any(
        taint["key"].startswith("node.kubernetes.io/")
        for node in nodes
        for taint in node["spec"].get("taints", [])
    )
