"""One Kubernetes control plane on loopback: etcd, API server, scheduler, controller manager.

No kubelet: nodes come from `nodesim`, or a real one from `node`. Settings are chosen to be quiet (a
demo runs two of these on two cores) and otherwise as real clusters have them. Certificates, keys
and data lie in the state directory and are as short-lived as that.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from functools import partial
from pathlib import Path

from devstack.kube.api import Api, ApiError
from devstack.kube.binaries import Binaries
from devstack.kube.certs import Authority, Pair, token_key
from devstack.ports import free_port, release
from devstack.process import Child, Supervisor, wait_until

ADMIN_GROUP = "system:masters"
NODE_GROUP = "system:nodes"
_HOST = "127.0.0.1"
_PORT_NAMES = ("api", "etcd", "etcd-peer", "scheduler", "controllers")

# What bare rental pods, their claims, namespaces and tokens need. The workload controllers
# (deployments, jobs, autoscaling, certificates, clouds) would only wake up for nothing.
CONTROLLERS = (
    "clusterrole-aggregation",
    "endpoint",
    "garbagecollector",
    "namespace",
    "nodelifecycle",
    "persistentvolume-binder",
    "podgc",
    "pv-protection",
    "pvc-protection",
    "resourcequota",
    "root-ca-cert-publisher",
    "serviceaccount",
    "serviceaccount-token",
    "ttl-after-finished",
)

# The scheduler's default of 50 requests/s becomes the limit when a hundred pods arrive at once.
SCHEDULER_QPS = 500

_READY_WITHIN_S = 60.0
_STOP_GRACE_S = 3


@dataclasses.dataclass(frozen=True)
class KubeletFiles:
    """How a real kubelet talks to its cluster and lets itself be talked to."""

    kubeconfig: Path
    serving: Pair
    ca: Path


class ControlPlane:
    """A cluster called `name` with its files in `folder`; `start`, use `api_url`, `stop`.

    `node_grace_s`: silence after which a node becomes Unknown (real clusters: 40). Longer than
    three of the nodes' heartbeats, else healthy nodes flap.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        supervisor: Supervisor,
        binaries: Binaries,
        node_grace_s: int = 40,
    ) -> None:
        self.name = name
        self.folder = folder
        self.version = binaries.version
        self._supervisor = supervisor
        self._binaries = binaries
        self._node_grace_s = node_grace_s
        self._children: list[Child] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._ports = {port: free_port() for port in _PORT_NAMES}
        self._authority = Authority(folder / "pki", name)
        self._serving = self._authority.server("kube-apiserver", [_HOST, "localhost"])
        self._etcd_server = self._authority.server("etcd", [_HOST, "localhost"])
        self._etcd_client = self._authority.client("etcd-client", [])
        self._kubelet_client = self._authority.client("kubelet-client", [ADMIN_GROUP])
        self._authority.server("kubelet", [_HOST])  # for the simulator of this cluster's nodes
        self._token_key = token_key(folder / "pki")
        self.admin_kubeconfig = self._kubeconfig("kubernetes-admin", [ADMIN_GROUP])

    @property
    def api_url(self) -> str:
        return f"https://{_HOST}:{self._ports['api']}"

    @property
    def pki(self) -> Path:
        """The folder of its certificates."""
        return self._authority.folder

    @property
    def ca_pem(self) -> str:
        return self._authority.pem

    def admin(self) -> Api:
        """A client with all rights."""
        return Api.from_kubeconfig(self.admin_kubeconfig)

    def kubelet_files(self, node: str, address: str) -> KubeletFiles:
        """New files for the kubelet of `node` at `address`, once per node of this cluster.

        FileExistsError for a node that has its files.
        """
        serving = self._authority.server(f"kubelet-{node}", [address, node])
        kubeconfig = self._kubeconfig(f"system:node:{node}", [NODE_GROUP])
        return KubeletFiles(kubeconfig, serving, self._authority.pair.cert)

    def start(self) -> None:
        """Start all four and return when each is ready. Raises ProcessError; then call `stop`."""
        self._start_etcd()
        self.start_api_server()
        for child, port in (self._start_scheduler(), self._start_controllers()):
            probe = Api(f"https://{_HOST}:{port}", self.ca_pem, timeout_s=2)
            wait_until(partial(_healthy, probe), f"{child.name} of {self.name}", child=child)

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready; again after `stop_api_server`."""
        child = self._run("kube-apiserver", self._api_server_flags())
        wait_until(
            partial(_healthy, self.admin(), "/readyz"),
            f"the API server of {self.name}",
            child=child,
            deadline_s=_READY_WITHIN_S,
        )

    def stop_api_server(self) -> None:
        """The cluster stops answering; nodes and scheduler stay and wait for it."""
        (child,) = [child for child in self._children if child.name.endswith("kube-apiserver")]
        self._supervisor.discard(child)
        self._children.remove(child)

    def stop(self) -> None:
        """Stop in reverse order; a few seconds at most. Safe after a start that failed."""
        for child in reversed(self._children):
            self._supervisor.discard(child)
        self._children.clear()
        for port in self._ports.values():
            release(port)

    def ended(self) -> list[Child]:
        """Programs that ended by themselves."""
        return [child for child in self._children if child.poll() is not None]

    def _start_etcd(self) -> None:
        url = f"https://{_HOST}:{self._ports['etcd']}"
        peer = f"http://{_HOST}:{self._ports['etcd-peer']}"
        self._run(
            "etcd",
            {
                "name": "default",
                "data-dir": self.folder / "etcd",
                "listen-client-urls": url,
                "advertise-client-urls": url,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": f"default={peer}",
                "cert-file": self._etcd_server.cert,
                "key-file": self._etcd_server.key,
                "trusted-ca-file": self._authority.pair.cert,
                # Another user of this machine must not read a cluster's secrets from its store.
                "client-cert-auth": "true",
                "auto-compaction-retention": "1h",
                "logger": "zap",
                "log-level": "warn",
            },
        )

    def _api_server_flags(self) -> dict[str, object]:
        flags: dict[str, object] = {
            "bind-address": _HOST,
            "advertise-address": _HOST,
            "secure-port": self._ports["api"],
            "tls-cert-file": self._serving.cert,
            "tls-private-key-file": self._serving.key,
            "client-ca-file": self._authority.pair.cert,
            "etcd-servers": f"https://{_HOST}:{self._ports['etcd']}",
            "etcd-cafile": self._authority.pair.cert,
            "etcd-certfile": self._etcd_client.cert,
            "etcd-keyfile": self._etcd_client.key,
            # Simulated nodes have addresses that lead nowhere and one that does (simnode.py).
            "kubelet-preferred-address-types": "ExternalIP,InternalIP",
            "kubelet-certificate-authority": self._authority.pair.cert,
            "kubelet-client-certificate": self._kubelet_client.cert,
            "kubelet-client-key": self._kubelet_client.key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": self._token_key,
            "service-account-key-file": self._token_key,
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "RBAC",
            # As real clusters, whose system pods need it: that tenants cannot is for policy to say.
            "allow-privileged": "true",
            # An endpoint on loopback is refused by validation, and nothing in a pod runs here.
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        if self.version < (1, 25):
            flags["enable-admission-plugins"] = "PodSecurityPolicy"
        if self.version < (1, 22):
            flags["feature-gates"] = "BoundServiceAccountTokenVolume=true,TTLAfterFinished=true"
        return flags

    def _start_scheduler(self) -> tuple[Child, int]:
        flags: dict[str, object] = {
            "kubeconfig": self._kubeconfig("system:kube-scheduler", []),
            "kube-api-qps": SCHEDULER_QPS,
            "kube-api-burst": SCHEDULER_QPS,
        }
        return self._run_component("kube-scheduler", "scheduler", flags)

    def _start_controllers(self) -> tuple[Child, int]:
        flags: dict[str, object] = {
            "kubeconfig": self._kubeconfig("system:kube-controller-manager", [ADMIN_GROUP]),
            "service-account-private-key-file": self._token_key,
            "root-ca-file": self._authority.pair.cert,
            "controllers": ",".join(CONTROLLERS),
            "node-monitor-grace-period": f"{self._node_grace_s}s",
            "kube-api-qps": 100,
            "kube-api-burst": 200,
        }
        if self.version < (1, 22):
            flags["feature-gates"] = "TTLAfterFinished=true"
        return self._run_component("kube-controller-manager", "controllers", flags)

    def _run_component(
        self, program: str, port_name: str, flags: dict[str, object]
    ) -> tuple[Child, int]:
        port = self._ports[port_name]
        serving = self._authority.server(program, [_HOST, "localhost"])
        flags |= {
            "bind-address": _HOST,
            "secure-port": port,
            "tls-cert-file": serving.cert,
            "tls-private-key-file": serving.key,
            "leader-elect": "false",
            "profiling": "false",
        }
        if self.version < (1, 23):
            flags["port"] = 0  # the old plain port, the same for every cluster of the machine
        return self._run(program, flags), port

    def _run(self, program: str, flags: dict[str, object]) -> Child:
        command = [str(self._binaries.path(program))]
        command += [f"--{key}={value}" for key, value in flags.items()]
        environment = {"ETCD_UNSUPPORTED_ARCH": os.uname().machine} if program == "etcd" else {}
        child = self._supervisor.start(
            f"{self.name}-{program}",
            command,
            env=environment,
            cwd=self.folder,
            grace_s=_STOP_GRACE_S,
        )
        self._children.append(child)
        return child

    def _kubeconfig(self, user: str, groups: list[str]) -> Path:
        """A kubeconfig with everything embedded. JSON is YAML, so kubectl and Go read it."""
        pair: Pair = self._authority.client(user, groups)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "contexts": [
                {"name": self.name, "context": {"cluster": self.name, "user": user}},
            ],
            "clusters": [
                {
                    "name": self.name,
                    "cluster": {
                        "server": self.api_url,
                        "certificate-authority-data": _encoded(self._authority.pair.cert),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _encoded(pair.cert),
                        "client-key-data": _encoded(pair.key),
                    },
                }
            ],
        }
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _healthy(probe: Api, path: str = "/healthz") -> bool:
    try:
        probe.get(path)
    except (ApiError, OSError):
        return False
    return True
