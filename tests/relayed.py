"""A provider's cluster as the relay meets it, without nodes: an API server, pods, and the relay.

Pods are whatever listens at a loopback address. `python -m tests.relayed FOLDER PORT` is a gateway
as a process of its own, for those who kill it; FOLDER/book.json is its directory.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devstack.kube.certs import Authority
from provisioner.streams.doors import Closed, Door
from provisioner.streams.gateway import Gateway
from provisioner.streams.relays import RelayKey
from tests.sshpod import until

CLUSTER = "clu_01m8g2e91yf9da8etbjzkk2a5w"
SPACE = "gpuyard-r-01"
INSTANCE = "ins_01m8g2e91yf9da8etbjzkk2a5x"


def pod_object(name: str, address: str, namespace: str = SPACE) -> dict[str, Any]:
    """A rental's pod that runs, as an API server shows it; tests spoil it."""
    labels = {"app.kubernetes.io/managed-by": "gpuyard", "gpuyard.io/instance": INSTANCE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIP": address, "hostIP": "127.9.9.9"},
    }


@dataclass
class Cluster:
    """An API server that knows one token and answers for single pods, and no more.

    instead: an answer for everything, status, headers and body. asked: paths, in order.
    """

    folder: Path
    pods: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    token: str = "the relay's"
    instead: tuple[int, dict[str, str], bytes] | None = None
    asked: list[str] = field(default_factory=list)
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _open: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        authority = Authority(self.folder / "pki", "dc")
        self._serving = authority.server("api", ["127.0.0.1"])
        self.account = self.folder / "account"
        self.account.mkdir()
        (self.account / "ca.crt").write_text(authority.pem)
        (self.account / "token").write_text(self.token)
        self.start()

    def start(self) -> None:
        """Serve; again at the same port after `stop`."""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60
            disable_nagle_algorithm = True

            def setup(self) -> None:
                cluster._open.add(self.request)
                super().setup()

            def finish(self) -> None:
                cluster._open.discard(self.request)
                super().finish()

            def do_GET(self) -> None:
                status, headers, body = cluster.answer(self.path, self.headers["Authorization"])
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """Who hangs up early is none of ours."""

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._serving.cert, self._serving.key)
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            for each in list(self._open):  # one that is kept for the next question
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._server.server_close()
            self._server = None

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if self.instead is not None:
            return self.instead
        if authorization != f"Bearer {self.token}":
            return 401, {}, b"{}"
        named = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)", path)
        found = self.pods.get((named[1], named[2])) if named else None
        return (404, {}, b"{}") if found is None else (200, {}, json.dumps(found).encode())

    def add(self, name: str, address: str, namespace: str = SPACE) -> dict[str, Any]:
        """A pod at a loopback address, whose object tests may change."""
        made = self.pods[namespace, name] = pod_object(name, address, namespace)
        return made

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@contextmanager
def listening(address: str, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a pod's own server, which serves each connection in a thread."""
    with socket.create_server((address, 0), backlog=512) as server:

        def one(made: socket.socket) -> None:
            with made, suppress(OSError):
                serve(made)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    made, _ = server.accept()
                    threading.Thread(target=one, args=(made,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def send_back(made: socket.socket) -> None:
    while got := made.recv(65536):
        made.sendall(got)


def write_seed(folder: Path, host_key: str) -> RelayKey:
    """The Secret of a new relay below ``folder``, for a gateway with that public host key."""
    folder.mkdir(exist_ok=True)
    seed = os.urandom(32)
    (folder / "relay.seed").write_text(base64.b64encode(seed).decode() + "\n")
    (folder / "gateway.pub").write_text(host_key + "\n")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return RelayKey(CLUSTER, public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@dataclass
class RelayProcess:
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def until_said(self, text: str, times: int = 1, *, deadline_s: float = 20) -> None:
        until(
            lambda: sum(text in line for line in self.log) >= times,
            f"the relay says {text!r}: {self.log}",
            deadline_s=deadline_s,
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()


def relaying(
    binary: Path, secret: Path, cluster: Cluster, *ports: int, more: tuple[str, ...] = ()
) -> AbstractContextManager[RelayProcess]:
    """The relay in that cluster, towards gateways at these local ports."""
    return relaying_at(cluster.url, cluster.account, binary, secret, *ports, more=more)


@contextmanager
def relaying_at(
    api: str, account: Path, binary: Path, secret: Path, *ports: int, more: tuple[str, ...] = ()
) -> Iterator[RelayProcess]:
    """The relay beside an API server; account: the folder of its service account."""
    command = [str(binary), "relay", "-cluster", CLUSTER, "-keys", str(secret)]
    command += [f"-gateway=127.0.0.1:{port}" for port in ports]
    command += ["-api", api, "-account", str(account), *more]
    made = RelayProcess(
        subprocess.Popen(
            command, env={}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    )
    try:
        yield made
    finally:
        made.end()


class Book:
    """A directory that a test writes in."""

    def __init__(self) -> None:
        self.doors: dict[str, Door | Closed] = {}
        self.relays: dict[str, RelayKey] = {}
        self.broken = False
        self.asked = 0

    async def find(self, name: str) -> Door | Closed | None:
        self._ask()
        return self.doors.get(name)

    async def relay(self, name: str) -> RelayKey | None:
        self._ask()
        return self.relays.get(name)

    def _ask(self) -> None:
        self.asked += 1
        if self.broken:
            raise OSError("the database is away")

    def write(self, folder: Path) -> None:
        """For a gateway in a process of its own."""
        pages = (("doors", self.doors), ("relays", self.relays))
        text = {page: {n: dataclasses.asdict(v) for n, v in of.items()} for page, of in pages}
        (folder / "book.json").write_text(json.dumps(text))

    @classmethod
    def read(cls, folder: Path) -> Book:
        text, book = json.loads((folder / "book.json").read_text()), cls()
        book.doors = {name: Door(**values) for name, values in text["doors"].items()}
        book.relays = {name: RelayKey(**values) for name, values in text["relays"].items()}
        return book


class Served:
    """A gateway on an event loop of its own thread."""

    def __init__(self, book: Book, host_key: str, port: int = 0) -> None:
        self.gateway = Gateway(book, [host_key])
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port: int = self.call(self.gateway.start("127.0.0.1", port))

    def stop(self) -> None:
        self.call(self.gateway.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)


def gateway_process(folder: Path, port: int) -> subprocess.Popen[str]:
    """A gateway that listens already; its host key is FOLDER/published."""
    words = [sys.executable, "-m", "tests.relayed", str(folder), str(port)]
    root = Path(__file__).resolve().parents[1]
    child = subprocess.Popen(
        words, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == f"{port}\n"
    return child


async def _serve(folder: Path, port: int) -> None:
    gateway = Gateway(Book.read(folder), [(folder / "published").read_text()])
    print(await gateway.start("127.0.0.1", port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
