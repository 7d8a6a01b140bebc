"""Simulated clusters as the platform meets them, with the attributes of `kube.stack.KubeStack`.

stack = SimStack(folder, names=["dc-owned", "dc-partner"])
stack.start()                 # about a tenth of a second per cluster
cluster = stack.clusters["dc-owned"]  # .api_url .ca_pem .token .admin_kubeconfig ...
stack.stop()

All clusters live in this process: one thread serves HTTP for all, one runs their controllers, a few
run the pods of all. Only reapers are programs of their own, as on real clusters, where they are
wanted. For benchmarks: `fleets` may be groups instead of names, `heartbeat_s` long, `event_ttl_s`
short, `control` False.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from collections.abc import Mapping, Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from devstack.console import say
from devstack.kube.certs import Authority, Pair
from devstack.kube.fleet import Machine, load_fleet, machines
from devstack.kube.nodesim import Simulator
from devstack.kube.provision import provision
from devstack.kube.reaper import reaper_command
from devstack.kube.sim.apiserver import GIT_VERSION, VERSION, ApiServer
from devstack.kube.sim.clock import WallClock
from devstack.kube.sim.control import serve_sim_control
from devstack.kube.sim.controllers import Controllers
from devstack.kube.sim.driver import Driver
from devstack.kube.sim.local import LocalApi
from devstack.kube.sim.server import HOST, HttpLoop, HttpServer
from devstack.kube.sim.store import HISTORY, Store
from devstack.kube.stack import DEFAULT_NAMES, Cluster
from devstack.kube.storagesim import StorageSim, load_storage
from devstack.kube.timeline import Timeline
from devstack.ports import free_port, release
from devstack.process import Child, Supervisor, wait_until
from devstack.state import State

ADMIN_GROUP = "system:masters"
# Threads that run the pods of all clusters: more only compete for the interpreter.
_WORKERS = 2


@dataclasses.dataclass(frozen=True)
class Pace:
    """What a simulated cluster does by itself, and how long it remembers.

    `heartbeat_s` and `node_grace_s` (s): how often nodes report and after which silence they are
    Unknown. `event_ttl_s`: how long events are kept. `history`: changes kept per kind for watches.
    """

    heartbeat_s: float = 10.0
    node_grace_s: float = 40.0
    event_ttl_s: float = 3600.0
    history: int = HISTORY


@dataclasses.dataclass
class _Shared:
    """Threads that all clusters of a stack use."""

    http: HttpLoop
    driver: Driver
    timeline: Timeline


class SimPlane:
    """One simulated control plane with its nodes; attributes as `controlplane.ControlPlane`."""

    def __init__(self, name: str, folder: Path, shared: _Shared, pace: Pace) -> None:
        self.name = name
        self.version = VERSION
        self._shared = shared
        self._pace = pace
        self._port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder / "pki", name)
        serving = authority.server("kube-apiserver", [HOST, "localhost"])
        self.ca_pem = authority.pem
        self.store = Store(WallClock(), history=pace.history)
        self.api = ApiServer(self.store)
        self.controllers = Controllers(
            self.store,
            self.api.verbs,
            node_grace_s=pace.node_grace_s,
            event_ttl_s=pace.event_ttl_s,
        )
        self.http = HttpServer(
            self.api,
            shared.http,
            port=self._port,
            serving=serving,
            authority=authority.pair.cert,
        )
        admin = authority.client("kubernetes-admin", [ADMIN_GROUP])
        self.admin_kubeconfig = folder / "kubernetes-admin.kubeconfig"
        _write_kubeconfig(self.admin_kubeconfig, name, self.api_url, authority.pair.cert, admin)
        self.simulator: Simulator | None = None
        self._storage: StorageSim | None = None

    @property
    def api_url(self) -> str:
        return f"https://{HOST}:{self._port}"

    def admin(self) -> LocalApi:
        """A client with all rights that needs no connection."""
        return LocalApi(self.api, self.api_url)

    def start_api_server(self) -> None:
        """Serve; again after `stop_api_server`."""
        self.http.start()

    def stop_api_server(self) -> None:
        """The cluster stops answering; nodes and scheduler go on."""
        self.http.stop()

    def start_nodes(self, fleet: list[Machine]) -> None:
        self.simulator = Simulator(
            self.name,
            fleet,
            self.admin(),
            heartbeat_s=self._pace.heartbeat_s,
            timeline=self._shared.timeline,
        )
        run = self.simulator.run
        threading.Thread(target=run, name=f"nodes-{self.name}", daemon=True).start()
        wait_until(self.simulator.ready.is_set, f"the nodes of {self.name}")
        kind = load_storage(self.name)
        if kind is not None:
            orders = self.simulator.orders
            self._storage = StorageSim(kind, api=self.admin(), orders=orders, say=say)
            self._storage.start()

    def stop_nodes(self) -> None:
        if self.simulator is not None:
            self.simulator.stop()
            self.simulator = None
        if self._storage is not None:
            self._storage.stop()
            self._storage = None

    def stop(self) -> None:
        self.stop_nodes()
        self._shared.driver.remove(self.controllers)
        self.http.stop()
        release(self._port)


class SimStack:
    """Clusters `names` with their files below `folder`, which it owns while it runs.

    `fleets`: by name a fleet preset, a file, or groups as in fleets.toml; by default the preset
    called like the cluster. `control` False: no control ports, for many clusters. `reapers` True: a
    reaper each, a process; without one the platform says that it is missing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: Sequence[str] = DEFAULT_NAMES,
        fleets: Mapping[str, str | Sequence[Mapping[str, Any]]] | None = None,
        namespaces: int = 16,
        pace: Pace | None = None,
        control: bool = True,
        reapers: bool = False,
    ) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.planes: dict[str, SimPlane] = {}
        self._folder = folder
        self._names = list(names)
        self._fleets = fleets or {}
        self._namespaces = namespaces
        self._pace = pace or Pace()
        self._control = control
        self._with_reapers = reapers
        self._reapers: dict[str, Child] = {}
        self._supervisor: Supervisor | None = None
        self._controls: dict[str, ThreadingHTTPServer] = {}
        self._state: State | None = None
        self._shared: _Shared | None = None

    def start(self) -> None:
        """Start everything and return when pods can run. A failure stops what had started.

        Raises api.ApiError, fleet.FleetError, process.ProcessError, state.StateBusyError, OSError.
        """
        self._state = State.acquire(self._folder)
        self._supervisor = Supervisor(self._state)
        self._shared = _Shared(HttpLoop(), Driver(), Timeline(_WORKERS, say))
        try:
            for name in self._names:
                self.clusters[name] = self._start_one(name, self._shared, self._state)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all clusters and give the folder back; its files stay."""
        self.clusters.clear()
        if self._supervisor:
            self._supervisor.stop()
            self._supervisor = None
        self._reapers.clear()
        for name in list(self._controls):
            self._stop_control(name)
        for plane in self.planes.values():
            plane.stop()
        self.planes.clear()
        if self._shared:
            self._shared.driver.stop()
            self._shared.http.stop()
            self._shared.timeline.stop()
            self._shared = None
        if self._state:
            self._state.close()
            self._state = None

    def start_simulator(self, name: str) -> None:
        """Bring up the nodes of a cluster; again after `stop_simulator`, their pods go on."""
        plane = self.planes[name]
        plane.start_nodes(self._machines(name))
        if name in self._controls:
            self._controls[name].RequestHandlerClass.sim = plane.simulator  # type: ignore[attr-defined]

    def stop_simulator(self, name: str) -> None:
        """All nodes of a cluster fall silent at once, as in a power cut."""
        self.planes[name].stop_nodes()

    def start_reaper(self, name: str) -> None:
        """As in KubeStack: the bundle's reaper as a program with its own account."""
        assert self._supervisor is not None
        assert self._state is not None
        command = reaper_command(self.planes[name], self._state.path / name)
        self._reapers[name] = self._supervisor.start(f"{name}-reaper", command)

    def stop_reaper(self, name: str) -> None:
        """Nobody ends pods whose lease runs out until `start_reaper`."""
        assert self._supervisor is not None
        self._supervisor.discard(self._reapers.pop(name))

    def ended(self) -> list[Child]:
        """Programs that ended by themselves: only reapers can, all else lives in this process."""
        return self._supervisor.ended() if self._supervisor else []

    def describe(self) -> dict[str, dict[str, Any]]:
        """The clusters as plain data, for other processes."""
        return {name: dataclasses.asdict(cluster) for name, cluster in self.clusters.items()}

    def _start_one(self, name: str, shared: _Shared, state: State) -> Cluster:
        plane = SimPlane(name, state.path / name, shared, self._pace)
        self.planes[name] = plane
        shared.driver.add(plane.controllers)
        plane.start_api_server()
        self.start_simulator(name)
        credentials = provision(
            plane.admin(), ca_pem=plane.ca_pem, version=VERSION, namespaces=self._namespaces
        )
        control_url = self._start_control(name) if self._control else ""
        if self._with_reapers:
            self.start_reaper(name)
        say(f"cluster {name}: simulated {GIT_VERSION} serves at {plane.api_url}")
        return Cluster(
            **dataclasses.asdict(credentials),
            name=name,
            version=GIT_VERSION,
            admin_kubeconfig=str(plane.admin_kubeconfig),
            sim_control_url=control_url,
            namespaces=self._namespaces,
        )

    def _machines(self, name: str) -> list[Machine]:
        fleet = self._fleets.get(name, name)
        return load_fleet(name, fleet) if isinstance(fleet, str) else machines(name, fleet)

    def _start_control(self, name: str) -> str:
        plane = self.planes[name]
        assert plane.simulator is not None
        port = free_port()
        self._controls[name] = serve_sim_control(plane.simulator, plane.http, port)
        return f"http://{HOST}:{port}"

    def _stop_control(self, name: str) -> None:
        server = self._controls.pop(name)
        server.shutdown()
        server.server_close()
        release(server.server_port)


def _write_kubeconfig(path: Path, name: str, url: str, authority: Path, admin: Pair) -> None:
    """As controlplane.py writes it: JSON with embedded certificates."""

    def encoded(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    keys = {
        "client-certificate-data": encoded(admin.cert),
        "client-key-data": encoded(admin.key),
    }
    cluster = {"server": url, "certificate-authority-data": encoded(authority)}
    user = "kubernetes-admin"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": keys}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))
