"""Ports of machines by name, all the way: client, proxy, gateway, a real relay, a real web server.

What strangers try at the proxy itself is in tests/unit/provisioner/test_port_proxy.py.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from devstack.ports import free_port, release
from provisioner.streams.ports.doors import PortDoor
from provisioner.streams.ports.raw import RawPorts
from tests.ported import (
    OTHER,
    RENTAL,
    TOKEN,
    Numbers,
    PortBook,
    Proxy,
    Reply,
    begun,
    door,
    read_all,
    upgrade,
    web,
)
from tests.ported import websocket_echo as echo
from tests.relayed import (
    CLUSTER,
    SPACE,
    Book,
    Cluster,
    RelayProcess,
    Served,
    listening,
    relaying,
    send_back,
    write_seed,
)
from tests.sshpod import MIB, NEEDS_OPENSSH, make_key, until

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

POD = "127.0.0.6"


@dataclass
class Scene:
    """A cluster with one pod, its relay, the gateway that it comes in to, and the proxy there."""

    cluster: Cluster
    relay: RelayProcess
    serving: Served
    proxy: Proxy

    def add(self, port: int, **given: object) -> PortDoor:
        return self.proxy.book.add(door(port, **given))  # type: ignore[arg-type]


@pytest.fixture
def scene(binary: Path, keys: Path, tmp_path: Path) -> Iterator[Scene]:
    make_key(keys, "published")
    cluster, book = Cluster(tmp_path), Book()
    published = (keys / "published.pub").read_text().strip()
    book.relays[CLUSTER] = write_seed(keys / "relay", published)
    serving = Served(book, (keys / "published").read_text())
    proxy = Proxy(PortBook(), serving.gateway.relays, loop=serving._loop)
    cluster.add("gy-web", POD)
    with relaying(binary, keys / "relay", cluster, serving.port) as relay:
        until(lambda: serving.gateway.relays.clusters() == [CLUSTER], "the relay is here")
        yield Scene(cluster, relay, serving, proxy)
    proxy.stop()
    serving.stop()
    cluster.stop()


@pytest.fixture
def site(scene: Scene) -> Iterator[PortDoor]:
    with web(POD) as port:
        yield scene.add(port)


def test_requests_and_bodies_of_any_size_come_through_whole(scene: Scene, site: PortDoor) -> None:
    proxy = scene.proxy
    assert proxy.ask(site, "/hello").body.startswith(b"GET /hello\n")
    body = os.urandom(20 * MIB)
    digest = hashlib.sha256(body).hexdigest().encode()
    assert proxy.ask(site, method="POST", body=body).body == digest
    back = proxy.ask(site, f"/bytes/{20 * MIB}")
    assert (back.status, len(back.body), set(back.body)) == (200, 20 * MIB, {ord("x")})
    assert proxy.ask(site, "/chunks").body == b"one two three"
    scene.relay.until_said(f"port={site.port}")


def test_a_kept_connection_goes_by_one_stream(scene: Scene, site: PortDoor) -> None:
    host = scene.proxy.host(site).encode()
    with scene.proxy.connect() as made:
        for _ in range(20):
            made.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
            got = b""
            while not got.endswith(b"xxxxx"):
                got += made.recv(65536)
    scene.relay.until_said("stream instance=")
    assert sum("stream instance=" in line for line in scene.relay.log) == 1


def test_a_hundred_at_once_are_served(scene: Scene, site: PortDoor) -> None:
    with ThreadPoolExecutor(100) as many:
        answers = list(many.map(lambda n: scene.proxy.ask(site, f"/{n}"), range(300)))
    assert [answer.body.split(b"\n")[0] for answer in answers] == [
        f"GET /{n}".encode() for n in range(300)
    ]


def test_a_reader_that_stalls_stops_nobody_else(scene: Scene, site: PortDoor) -> None:
    host = scene.proxy.host(site).encode()
    with scene.proxy.connect() as stalled:
        stalled.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (50 * MIB, host))
        assert stalled.recv(100)
        began = time.monotonic()
        assert scene.proxy.ask(site, "/bytes/1000000").status == 200
        assert time.monotonic() - began < 5


def test_websockets_go_both_ways_and_end_with_the_mode(scene: Scene) -> None:
    with listening(POD, echo) as port:
        of = scene.add(port, mode="token")
        with upgrade(scene.proxy, of, f"Authorization: Bearer {TOKEN}") as made:
            sent = os.urandom(3 * MIB)
            threading.Thread(target=made.sendall, args=(sent,), daemon=True).start()
            got = bytearray()
            while len(got) < len(sent):
                got += made.recv(1 << 20)
            assert bytes(got) == sent
            began = time.monotonic()
            scene.add(port, mode="team")
            assert read_all(made) == b""
            assert time.monotonic() - began < 5
    scene.relay.until_said("stream instance=")


def test_nothing_that_listens_and_no_pod_and_no_relay_are_told_apart(scene: Scene) -> None:
    with socket.create_server((POD, 0)) as taken:
        port = taken.getsockname()[1]
    of = scene.add(port)
    answer = scene.proxy.ask(of)
    assert answer.status == 502
    assert b"Nothing listens on port" in answer.body
    scene.relay.end()
    began = time.monotonic()
    answer = scene.proxy.ask(of)
    assert answer.status == 503
    assert b"The way to this machine is interrupted" in answer.body
    assert time.monotonic() - began < 15


def test_a_lost_relay_ends_what_went_by_it(scene: Scene) -> None:
    with listening(POD, echo) as port:
        of = scene.add(port)
        with upgrade(scene.proxy, of) as made:
            scene.relay.end()
            assert read_all(made) == b""
    until(lambda: not scene.proxy.inside.guests, "nothing is left of it")


def test_two_machines_are_kept_apart(scene: Scene) -> None:
    """One connection of a proxy in front, two machines, a cookie of each."""
    scene.cluster.add("gy-two", "127.0.0.7")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(web(at, ("X-Machine", at))) for at in (POD, "127.0.0.7")
        )
        one = scene.add(first, mode="token")
        assert one.way is not None
        way = replace(one.way, instance="ins_other", target=f"gy-two.{SPACE}")
        two = scene.add(second, rental=OTHER, mode="token", token="o" * 43, way=way)
        cookie = {
            of: scene.proxy.ask(of, f"/?token={of.token}").header("set-cookie").partition(";")[0]
            for of in (one, two)
        }
        for of, at in ((one, POD), (two, "127.0.0.7")):
            answer: Reply = scene.proxy.ask(of, "/", f"Cookie: {cookie[of]}")
            assert (answer.status, answer.header("x-machine")) == (200, at)
        assert scene.proxy.ask(one, "/", f"Cookie: {cookie[two]}").status == 401
        assert scene.proxy.ask(two, "/", f"Cookie: {cookie[one]}").status == 401


def test_raw_bytes_come_through_by_a_number(scene: Scene) -> None:
    table = Numbers()
    raw = RawPorts(scene.proxy.inside, table, "127.0.0.1")
    scene.proxy.call(begun(raw))
    with listening(POD, send_back) as port:
        scene.add(port, protocol="tcp")
        number = free_port()
        table.rows[number] = (RENTAL, port)
        until(lambda: raw.listening == [number], "it listens")
        data = os.urandom(20 * MIB)
        with socket.create_connection(("127.0.0.1", number), timeout=60) as made:

            def send() -> None:
                made.sendall(data)
                made.shutdown(socket.SHUT_WR)

            sending = threading.Thread(target=send)
            sending.start()
            back = read_all(made)
            sending.join()
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    scene.proxy.call(raw.stop())
    release(number)
