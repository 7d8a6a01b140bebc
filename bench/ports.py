"""Requests to a port of a machine by its name: what proxy, gateway and relay add, and what an idle
connection takes.

A small web server in a pod answers five bytes. In turns it is asked straight and by its name
through proxy and relay, on kept connections and on new ones, then by many clients at once, and a
large body is sent each way. Then connections lie idle, each after one request. Proxy with gateway,
relay and web server are processes of their own; no database and no proxy for TLS take part. The
last line is JSON; a ratio of 2 means twice as slow as without.

    python bench/ports.py [connections]
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devstack.podtools import build_podtools
from devstack.ports import free_port
from provisioner.streams.gateway import Gateway
from tests.ported import KEYS, NAMES, PORTAL, PortBook, door
from tests.relayed import CLUSTER, Book, Cluster, relaying, write_seed
from tests.sshpod import MIB, make_key

ROOT = Path(__file__).resolve().parents[1]
POD = "127.0.0.8"
ROUNDS = 300
FRESH_ROUNDS = 100
CLIENTS = 50
BODY_MIB = 100


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


class Way:
    """To the web server: straight, or by its name."""

    def __init__(self, address: str, port: int, host: str) -> None:
        self.address, self.port, self.host = address, port, host

    def connect(self) -> socket.socket:
        made = socket.create_connection((self.address, self.port), timeout=60)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, made: socket.socket, target: str = "/bytes/5", size: int = 5) -> float:
        """Milliseconds of a request on this connection."""
        began = time.perf_counter()
        made.sendall(f"GET {target} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        left, head = size, b""
        while b"\r\n\r\n" not in head:
            got = made.recv(1 << 18)
            assert got, head
            head += got
        assert head.startswith(b"HTTP/1.1 200"), head[:200]
        left -= len(head.partition(b"\r\n\r\n")[2])
        while left:
            got = made.recv(1 << 18)
            assert got
            left -= len(got)
        return (time.perf_counter() - began) * 1000

    def fresh(self) -> float:
        began = time.perf_counter()
        with self.connect() as made:
            self.ask(made)
        return (time.perf_counter() - began) * 1000

    def download(self) -> float:
        """MiB/s out of the pod."""
        size = BODY_MIB * MIB
        with self.connect() as made:
            return BODY_MIB * 1000 / self.ask(made, f"/bytes/{size}", size)

    def upload(self) -> float:
        """MiB/s into it."""
        body = b"\0" * (BODY_MIB * MIB)
        with self.connect() as made:
            began = time.perf_counter()
            head = f"POST / HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            made.sendall(head.encode())
            made.sendall(body)
            assert made.recv(65536).startswith(b"HTTP/1.1 200")
            return BODY_MIB / (time.perf_counter() - began)


def crowd(way: Way) -> float:
    """Requests per second of many clients, each on its kept connection."""

    def many(_: int) -> None:
        with way.connect() as made:
            for _ in range(20):
                way.ask(made)

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(many, range(CLIENTS)))
    return CLIENTS * 20 / (time.perf_counter() - began)


@contextmanager
def child(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """This file as another process, and the port that it listens at."""
    command = [sys.executable, __file__, *words]
    made = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert made.stdout
        yield made, int(made.stdout.readline())
    finally:
        made.kill()
        made.communicate()


def measure(straight: Way, named: Way, pid: int, relay: int, connections: int) -> dict[str, Any]:
    with straight.connect() as one, named.connect() as two:
        kept = [(straight.ask(one), named.ask(two)) for _ in range(ROUNDS)]
    fresh = [(straight.fresh(), named.fresh()) for _ in range(FRESH_ROUNDS)]
    rates = [(crowd(straight), crowd(named)) for _ in range(3)]
    flows = [
        (straight.download(), named.download(), straight.upload(), named.upload()) for _ in range(3)
    ]
    empty = memory_kib(pid), memory_kib(relay)
    idle = [named.connect() for _ in range(connections)]
    for each in idle:
        named.ask(each)
    full = memory_kib(pid), memory_kib(relay)
    bare = [named.connect() for _ in range(connections)]
    named.fresh()  # they have been accepted
    waiting = memory_kib(pid)
    for each in (*idle, *bare):
        each.close()
    return {
        **_times("kept", kept),
        **_times("fresh", fresh),
        **_rates("requests_s", [row[:2] for row in rates]),
        **_rates("out_mib_s", [row[:2] for row in flows]),
        **_rates("in_mib_s", [row[2:] for row in flows]),
        "kib_per_idle_connection": round((full[0] - empty[0]) / connections, 1),
        "relay_kib_per_idle_connection": round((full[1] - empty[1]) / connections, 1),
        "kib_per_silent_connection": round((waiting - full[0]) / connections, 1),
    }


def _times(name: str, rows: list[tuple[float, float]]) -> dict[str, Any]:
    floor, figure = (statistics.median(column) for column in zip(*rows, strict=True))
    p95 = [statistics.quantiles(column, n=20)[-1] for column in zip(*rows, strict=True)]
    return {
        f"floor_{name}_ms": round(floor, 2),
        f"{name}_ms": round(figure, 2),
        f"added_{name}_ms": round(figure - floor, 2),
        f"added_{name}_p95_ms": round(p95[1] - p95[0], 2),
        f"{name}_ratio": round(figure / floor, 1),
    }


def _rates(name: str, rows: list[Any]) -> dict[str, Any]:
    floor, figure = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        f"floor_{name}": round(floor),
        name: round(figure),
        f"{name}_ratio": round(floor / figure, 1),
    }


async def serve(folder: Path, web: int, ssh: int) -> None:
    """Gateway and proxy, as `manage.py gateway` runs them."""
    from provisioner.streams.ports.inside import Inside
    from provisioner.streams.ports.server import Ports

    gateway = Gateway(Book.read(folder), [(folder / "published").read_text()])
    await gateway.start("127.0.0.1", ssh)
    book = PortBook()
    book.add(door(web, mode="token"))
    inside = Inside(book, gateway.relays, per_rental=10_000)
    inside.start()
    ports = Ports(inside, NAMES, PORTAL, KEYS)
    print(await ports.start("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()


def site() -> None:
    from tests.ported import web

    with web(POD) as port:
        print(port, flush=True)
        signal.pause()


def main(connections: int) -> None:
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        make_key(folder, "published")
        book, ssh = Book(), free_port()
        book.relays[CLUSTER] = write_seed(
            folder / "relay", (folder / "published.pub").read_text().strip()
        )
        book.write(folder)
        cluster = Cluster(folder)
        stack.callback(cluster.stop)
        cluster.add("gy-web", POD)
        _, port = stack.enter_context(child("site"))
        gateway, http = stack.enter_context(child("serve", str(folder), str(port), str(ssh)))
        relay = stack.enter_context(relaying(build_podtools(), folder / "relay", cluster, ssh))
        relay.until_said("connected")
        token = door(port).token
        host = f"{NAMES.host(door(port).rental, port)}\r\nAuthorization: Bearer {token}"
        straight, named = Way(POD, port, "pod"), Way("127.0.0.1", http, host)
        found = measure(straight, named, gateway.pid, relay.process.pid, connections)
        print(json.dumps(found))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["site"]:
            site()
        case ["serve", folder, web_port, ssh_port]:
            asyncio.run(serve(Path(folder), int(web_port), int(ssh_port)))
        case words:
            main(int(words[0]) if words else 500)
