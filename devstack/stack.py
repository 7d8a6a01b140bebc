"""The whole platform on one machine: its own processes and the world around it, on loopback.

PostgreSQL, broker, two Kubernetes control planes with simulated nodes, the Stripe simulator, and
the product's processes started exactly as docs/operators.md says: web, streams, worker, beat,
watcher, with one origin in front of web and streams.
The product is configured by environment only and does not know where it runs.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.broker import Broker
from devstack.console import say
from devstack.kube.api import Api
from devstack.kube.node.jupyter import give_jupyter
from devstack.kube.relay import relay_command
from devstack.ports import free_block, free_port
from devstack.postgres import Postgres
from devstack.process import Child, ProcessError, Supervisor, answers_at, wait_until
from devstack.state import State

ROOT = Path(__file__).resolve().parents[1]
CLUSTERS = ("dc-owned", "dc-partner")

# Web threads: the races send 64 requests at once, and a blocked one holds a thread, not a core.
WEB_THREADS = 16
# Worker processes: one may drain an outage while others answer wake-ups; more only cost memory.
WORKER_PROCESSES = 4
PROCESSES = ("web", "worker", "beat", "watcher", "streams")
# The one cluster of a stack with a real node, in which pods really run; nothing is simulated there.
# Numbers for raw TCP ports: enough for a demo and its tests.
_RAW_PORTS = 20
REAL = "dc-real"


@dataclass(frozen=True)
class Cluster:
    """A running control plane as its owner knows it."""

    name: str
    api_url: str
    ca_pem: str
    token: str
    admin_kubeconfig: Path
    sim_control_url: str
    node_address: str
    images: dict[str, str]


class Stack:
    """Start with `start`, look at `base_url`, `env` and `clusters`, end with `stop`.

    In a temporary state its database and broker are its own whatever the environment names: it
    begins empty and meets no other stack there. `kube`: "real" control planes, or "sim" for
    simulated ones. Among real ones `REAL` has a real node (kube/node/able.py says whether this
    machine can), and with it the stack has a gateway.
    """

    def __init__(
        self,
        state: State,
        *,
        clusters: Sequence[str] = CLUSTERS,
        durable: bool = True,
        kube: str = "real",
    ) -> None:
        self.state = state
        self.supervisor = Supervisor(state)
        self.postgres = Postgres(state, fsync=durable, own=state.is_temporary)
        self.broker = Broker(state, own=state.is_temporary)
        self.cluster_names = tuple(clusters)
        self.clusters: dict[str, Cluster] = {}
        self.env: dict[str, str] = {}
        self.port = free_port()
        self.web_port = free_port()
        self.streams_port = free_port()
        self.stripe_port = free_port()
        self.mail = state.path / "mail"
        self.kube = kube
        self.gateway_port = free_port()
        self.ports_port = free_port()  # of machines, by name
        self.raw_ports = free_block(_RAW_PORTS)  # of machines, by number
        self._kube: Child | None = None
        self.processes: dict[str, Child] = {}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stripe_url(self) -> str:
        return f"http://127.0.0.1:{self.stripe_port}"

    @property
    def has_real_node(self) -> bool:
        return REAL in self.cluster_names

    def jupyter_image(self) -> str:
        """A reference that the real node knows from now on; see devstack.kube.node.jupyter."""
        return give_jupyter(self.state.path / "kube" / REAL / "node")

    @property
    def gateway(self) -> tuple[str, int]:
        """Where SSH is listened for; on the address by which pods reach this machine."""
        return self.clusters[REAL].node_address, self.gateway_port

    def start(self) -> None:
        """Everything up and answering; ProcessError with the end of a log otherwise."""
        if self.cluster_names:
            self._start_kube()
        self._start_stripe()
        database_url = self.postgres.start()
        broker_url = self.broker.start()
        say("PostgreSQL and broker answer")
        self.mail.mkdir()
        if self.has_real_node:
            self._await_kube()  # what its pods are to be told is known then
        self.env = self._environment(database_url, broker_url)
        self.manage("migrate", "--verbosity", "0")
        say("database migrated")
        self._start_origin()
        for name in (*PROCESSES, *["gateway"] * self.has_real_node):
            self.start_process(name)
        self.await_web()
        if self.cluster_names and not self.clusters:
            self._await_kube()

    def stop(self) -> None:
        """End all processes in reverse order; bounded."""
        self.supervisor.stop()
        self.broker.stop()
        self.postgres.stop()

    def manage(self, *words: str, env: dict[str, str] | None = None) -> str:
        """Run a management command; its standard output. ProcessError with its errors."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *words],
            env={**os.environ, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise ProcessError(f"manage.py {words[0]} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    def start_process(self, name: str) -> Child:
        """Start one of PROCESSES (again); the child."""
        commands = {
            "web": [
                *(sys.executable, "-m", "granian", "config.wsgi:application"),
                *("--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.web_port)),
                *("--workers", "1", "--blocking-threads", str(WEB_THREADS)),
                *("--no-access-log", "--log-level", "warning"),
            ],
            "worker": [
                *(sys.executable, "-m", "celery", "-A", "config.celery", "worker"),
                *("--concurrency", str(WORKER_PROCESSES), "--loglevel", "WARNING"),
                *("--without-mingle", "--without-gossip", "--hostname", f"worker@{self.web_port}"),
            ],
            "beat": [
                *(sys.executable, "-m", "celery", "-A", "config.celery", "beat"),
                *("--loglevel", "WARNING", "--schedule", str(self.state.path / "beat.db")),
                *("--pidfile", ""),
            ],
            "watcher": [sys.executable, str(ROOT / "manage.py"), "watcher"],
            "streams": [
                *(sys.executable, "-m", "granian", "config.asgi:application"),
                *("--interface", "asgi", "--host", "127.0.0.1", "--port", str(self.streams_port)),
                *("--workers", "1", "--no-access-log", "--log-level", "warning"),
            ],
        }
        if self.has_real_node:
            host, port = self.gateway
            commands["gateway"] = [
                *(sys.executable, str(ROOT / "manage.py"), "gateway"),
                *("--host", host, "--port", str(port)),
                *("--http-host", "127.0.0.1", "--http-port", str(self.ports_port)),
                *("--tcp-host", "127.0.0.1"),
            ]
        child = self.supervisor.start(
            name, commands[name], env={**self.env, "GPUYARD_PROCESS": name}, cwd=ROOT
        )
        self.processes[name] = child
        return child

    def start_relay(self, name: str, values: dict[str, str]) -> Child:
        """The relay of a cluster, with what its provider was told of it."""
        relay = self.state.path / "relay" / secrets.token_hex(4)
        child = self.supervisor.start(
            f"{name}-relay",
            relay_command(
                Api.from_kubeconfig(self.clusters[name].admin_kubeconfig),
                relay,
                self.clusters[name].ca_pem,
                cluster=values["cluster"],
                gateway=values["gateway"],
                seed=values["relay_seed"],
                gateway_key=values["gateway_key"],
            ),
        )
        self.processes["relay"] = child
        return child

    def kill_process(self, name: str) -> None:
        """kill -9 of a process and all that it started; it stays away until started again."""
        child = self.processes.pop(name)
        child.signal(signal.SIGKILL)
        child.wait(10)
        self.supervisor.children.remove(child)

    def stop_process(self, name: str) -> None:
        """End one as an operator does, with its grace; it stays away until started again."""
        self.supervisor.discard(self.processes.pop(name))

    def _environment(self, database_url: str, broker_url: str) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "GPUYARD_BASE_URL": self.base_url,
            "GPUYARD_SECRET_KEY": secrets.token_urlsafe(32),
            # Mail becomes files that a person, or the demo in a person's place, can open.
            "GPUYARD_EMAIL_URL": f"filemail:///{self.mail}",
            "GPUYARD_LOG_FORMAT": "text",
            "STRIPE_API_KEY": "sk_test_gpuyard",
            "STRIPE_API_BASE": self.stripe_url,
            "STRIPE_WEBHOOK_SECRET": "whsec_gpuyard",
            # Receivers of webhooks that a developer runs here are not public (docs/operators.md).
            "GPUYARD_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
            "GPUYARD_WEBHOOK_CA_FILE": os.environ.get("GPUYARD_WEBHOOK_CA_FILE", ""),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
            **(self._way_in() if self.has_real_node else {}),
            # On simulated machines nothing can be measured that is not made up.
            "GPUYARD_PROBES": "1" if self.has_real_node else "0",
        }

    def _way_in(self) -> dict[str, str]:
        """What pods that really run, and who wants to get into them, are told."""
        host, port = self.gateway
        return {
            "GPUYARD_TOOLS_IMAGE": self.clusters[REAL].images["tools"],
            "GPUYARD_REPORT_URL": f"http://{host}:{self.port}/api/v1/instance-reports",
            "GPUYARD_SSH_GATEWAY": f"{host}:{port}",
            # Browsers take every name below localhost for this machine.
            "GPUYARD_PORTS_URL": f"http://pods.localhost:{self.ports_port}",
            "GPUYARD_TCP_PORTS": f"127.0.0.1:{self.raw_ports}-{self.raw_ports + _RAW_PORTS - 1}",
            "GPUYARD_ALLOWED_HOSTS": f"127.0.0.1,localhost,{host}",
        }

    def _start_origin(self) -> None:
        self.supervisor.start(
            "origin",
            [
                *(sys.executable, "-m", "devstack.origin", "--port", str(self.port)),
                *("--web", str(self.web_port), "--streams", str(self.streams_port)),
                *(["--also", self.clusters[REAL].node_address] if self.has_real_node else []),
            ],
            cwd=ROOT,
        )

    def await_web(self) -> None:
        """Until the web and the streams process answer."""
        # Six processes import at once: on a busy machine that takes more than half a minute.
        wait_until(
            answers_at(f"{self.base_url}/healthz"),
            "the web process answers",
            child=self.processes["web"],
            deadline_s=180,
        )
        wait_until(
            answers_at(f"{self.base_url}/streams/healthz"),
            "the streams process answers",
            child=self.processes["streams"],
            deadline_s=120,  # it imports the Kubernetes client: ten seconds of a busy core
        )
        say(f"web answers at {self.base_url}")

    def _start_stripe(self) -> None:
        self.supervisor.start(
            "stripe",
            [
                *(sys.executable, "-m", "devstack.stripe", "--port", str(self.stripe_port)),
                *("--state", str(self.state.path / "stripe")),
                *("--webhook-url", f"{self.base_url}/webhooks/stripe"),
                *("--webhook-secret", "whsec_gpuyard", "--api-key", "sk_test_gpuyard"),
            ],
            cwd=ROOT,
        )

    def _start_kube(self) -> None:
        self._kube = self.supervisor.start(
            "kube",
            [
                *(sys.executable, "-m", "devstack.kube", "up"),
                *("--state", str(self.state.path / "kube")),
                *("--json-out", str(self._kube_file)),
                *("--names", ",".join(self.cluster_names), "--kind", self.kube),
                *(["--real", REAL] if self.has_real_node else []),
            ],
            cwd=ROOT,
            grace_s=40 if self.has_real_node else 15,
        )

    @property
    def _kube_file(self) -> Path:
        return self.state.path / "kube.json"

    def _await_kube(self) -> None:
        wait_until(
            self._kube_file.exists,
            "the control planes answer",
            child=self._kube,
            deadline_s=1800 if self.has_real_node else 180,
        )
        found: dict[str, Any] = json.loads(self._kube_file.read_text())
        for name, values in found.items():
            self.clusters[name] = Cluster(
                name=name,
                api_url=values["api_url"],
                ca_pem=values["ca_pem"],
                token=values["token"],
                admin_kubeconfig=Path(values["admin_kubeconfig"]),
                sim_control_url=values["sim_control_url"],
                node_address=values.get("node_address", ""),
                images=values.get("images", {}),
            )
        kind = "simulated control planes" if self.kube == "sim" else "Kubernetes control planes"
        say(f"{kind} answer: {', '.join(self.clusters)}")
