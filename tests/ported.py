"""Ports by name, as tests meet them: the proxy on an event loop of its own thread, a directory to
write in, a stand-in for the relay, pods that serve HTTP, and requests byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import asyncssh

from kernel.ids import parse
from provisioner.instances.port_names import PortNames
from provisioner.streams.ports.doors import PortDoor, Way
from provisioner.streams.ports.inside import Inside
from provisioner.streams.ports.judge import Keys
from provisioner.streams.ports.raw import RawPorts
from provisioner.streams.ports.server import Ports
from tests.relayed import CLUSTER, INSTANCE, SPACE

RENTAL = parse("rental", "ren_01m8g2e91yf9da8etbjzkk2a5w")
OTHER = parse("rental", "ren_01m8g2e91yf9da8etbjzkk2a5x")
PORTAL = "https://gpuyard.example.com"
KEYS = Keys(cookie=b"c" * 32, grant=b"g" * 32)
NAMES = PortNames("https", "pods.example.net", 443)
TOKEN = "t" * 43


def door(port: int, *, rental: UUID = RENTAL, mode: str = "public", **given: Any) -> PortDoor:
    way = Way(instance=INSTANCE, cluster=CLUSTER, target=f"gy-web.{SPACE}")
    made = PortDoor(
        rental=rental, port=port, access_mode=mode, version=1, token=TOKEN, way=way, sentence=""
    )
    return replace(made, **given)


class PortBook:
    """A directory that a test writes in."""

    def __init__(self) -> None:
        self.doors: dict[tuple[UUID, int], PortDoor] = {}
        self.broken = False
        self.asked = 0

    def add(self, made: PortDoor) -> PortDoor:
        self.doors[made.rental, made.port] = made
        return made

    async def find_port(self, rental: UUID, port: int) -> PortDoor | None:
        self.asked += 1
        if self.broken:
            raise OSError("the database is away")
        return self.doors.get((rental, port))


class Numbers:
    """Numbers of raw ports, as a table that a test writes in."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[UUID, int]] = {}
        self.broken = False

    async def raw_ports(self) -> list[tuple[int, UUID, int]]:
        if self.broken:
            raise OSError("the database is away")
        return [(number, *name) for number, name in self.rows.items()]


async def begun(listener: RawPorts) -> None:
    """Start it on the loop that this is run by."""
    listener.start()


class Loopback:
    """Streams to local ports, in place of a relay. opened: how many."""

    def __init__(self) -> None:
        self.opened = 0

    async def stream(self, cluster: str, target: str, port: int) -> tuple[Any, Any]:
        self.opened += 1
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, str(error)) from error


class Proxy:
    """The proxy, listening at `port`."""

    def __init__(
        self,
        book: PortBook,
        streams: Any,
        *,
        names: PortNames = NAMES,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.book, self.streams, self.names = book, streams, names
        self._own_loop = loop is None
        self._loop = loop or asyncio.new_event_loop()
        if self._own_loop:
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.inside = Inside(book, streams)
        self.ports = Ports(self.inside, names, PORTAL, KEYS)
        self.port: int = self.call(self._start())

    async def _start(self) -> int:
        self.inside.start()
        return await self.ports.start("127.0.0.1", 0)

    async def _stop(self) -> None:
        self.inside.stop()
        await self.ports.stop()

    def stop(self) -> None:
        self.call(self._stop())
        if self._own_loop:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def host(self, of: PortDoor) -> str:
        return self.names.host(of.rental, of.port)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, data: bytes) -> bytes:
        """Send these bytes and no more; all that comes back until the end."""
        with self.connect() as made:
            made.sendall(data)
            made.shutdown(socket.SHUT_WR)
            return read_all(made)

    def ask(
        self,
        of: PortDoor,
        target: str = "/",
        *lines: str,
        method: str = "GET",
        body: bytes = b"",
        host: str = "",
    ) -> Reply:
        """One request on a connection of its own."""
        head = [f"{method} {target} HTTP/1.1", f"Host: {host or self.host(of)}", *lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        head += ["Connection: close", "", ""]
        with self.connect() as made:
            made.sendall("\r\n".join(head).encode("latin-1") + body)
            return Reply(read_all(made))


class Reply:
    """An answer that ended with its connection."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        pairs = [line.split(": ", 1) for line in lines]
        self.headers = [(name.lower(), value) for name, value in pairs]
        chunked = self.header("transfer-encoding") == "chunked"
        self.body = unchunked(body) if chunked else body

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each == name]

    def header(self, name: str) -> str:
        return next(iter(self.all(name)), "")


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return found
        found, data = found + data[:length], data[length + 2 :]
    raise AssertionError("chunks without an end")


def read_all(made: socket.socket) -> bytes:
    found = b""
    try:
        while got := made.recv(65536):
            found += got
    except ConnectionResetError:
        pass  # broken off: what came is what there is
    return found


class Handler(BaseHTTPRequestHandler):
    """A renter's web server: says what it was asked, counts bodies, sends as much as is wanted."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path.startswith("/bytes/"):
            self._answer(b"x" * int(self.path.removeprefix("/bytes/")))
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            said = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items())
            self._answer(f"{self.command} {self.path}\n{said}".encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        digest = hashlib.sha256()
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                got = self.rfile.read(min(left, 65536))
                digest.update(got)
                left -= len(got)
        self._answer(digest.hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in (("Content-Length", str(len(body))), *type(self).more):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    more: tuple[tuple[str, str], ...] = ()

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Who hangs up early is none of ours."""


@contextmanager
def web(address: str = "127.0.0.1", *more: tuple[str, str]) -> Iterator[int]:
    """The port of a web server in a pod; more: headers of its answers."""
    handler = type("Given", (Handler,), {"more": more})
    server = _Server((address, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def websocket_echo(made: socket.socket) -> None:
    """A pod's server that agrees to any upgrade and sends back what comes then."""
    head = b""
    while b"\r\n\r\n" not in head:
        got = made.recv(65536)
        if not got:
            return
        head += got
    rest = head.partition(b"\r\n\r\n")[2]
    made.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        b"hello " + rest
    )
    while got := made.recv(65536):
        made.sendall(got)


def upgrade(proxy: Proxy, of: PortDoor, *lines: str) -> socket.socket:
    """A websocket's handshake, agreed to, with the pod's first word read."""
    made = proxy.connect()
    head = [
        "GET /ws HTTP/1.1",
        f"Host: {proxy.host(of)}",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    made.sendall("\r\n".join([*head, "", ""]).encode())
    got = b""
    while not got.endswith(b"hello "):
        more = made.recv(65536)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 101 "), got
    return made
