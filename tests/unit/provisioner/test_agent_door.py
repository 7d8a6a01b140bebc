"""The door for commands at the gateway: who may come in, to which agent, and what strangers get."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import asyncssh
import pytest

from kernel.grants import Grant, sign
from kernel.ids import parse, public
from provisioner.contracts.access import COMMAND_VERB
from provisioner.streams import agents
from provisioner.streams.relays import NoRelay
from tests.agentdoor import KEY, DoorWorld, everything
from tests.relayed import listening, send_back
from tests.sshpod import until

CLUSTER = parse("cluster", "clu_01m8g2e91yf9da8etbjzkk2a5w")
OTHER = parse("cluster", "clu_01m8g2e91yf9da8etbjzkk2a5x")


@pytest.fixture
def world() -> Iterator[DoorWorld]:
    made = DoorWorld()
    with listening("127.0.0.1", send_back) as port:
        made.agents.port = port
        yield made
    made.stop()


def asking(
    cluster: UUID = CLUSTER,
    *,
    of: UUID | None = None,
    verb: str = COMMAND_VERB,
    key: bytes = KEY,
    at: float | None = None,
) -> bytes:
    """A head as the platform's programs send it; of: whom the grant is for."""
    grant = Grant(verb, subject=of or cluster, owner=cluster)
    signed = sign(grant, key=key, now=time.time() if at is None else at)
    return (
        f"CONNECT {public('cluster', cluster)}:443 HTTP/1.1\r\n"
        f"Proxy-Authorization: Bearer {signed}\r\n\r\n"
    ).encode()


def read(made: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        got = made.recv(size - len(found))
        assert got, found
        found += got
    return found


def test_who_has_a_grant_is_led_to_that_agent_and_nothing_is_read(world: DoorWorld) -> None:
    with world.saying(asking()) as made:
        assert read(made, 26) == b"HTTP/1.1 200 Connected\r\n\r\n"
        data = os.urandom(300_000)
        sending = threading.Thread(target=made.sendall, args=(data,))
        sending.start()
        assert read(made, len(data)) == data
        sending.join()
    assert world.agents.opened == [(public("cluster", CLUSTER), "api", 443)]
    until(lambda: not world.door._tasks, "nothing is left of it")


def _asking(**given: Any) -> Callable[[], bytes]:
    """Made in the test: what is made while tests are collected has expired when they run."""
    return lambda: asking(**given)


NOT_LET_IN: dict[str, tuple[Callable[[], bytes], bytes]] = {
    "for another cluster": (_asking(of=OTHER), b"403"),
    "for another verb": (_asking(verb="logs.follow"), b"403"),
    "by another key": (_asking(key=b"x" * 32), b"403"),
    "expired": (lambda: asking(at=time.time() - 3600), b"403"),
    "no cluster": (lambda: asking().replace(b"clu_", b"ren_"), b"403"),
    "a page": (lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "no version": (lambda: b"CONNECT x\r\n\r\n", b"400"),
    "no grant": (lambda: asking().replace(b"Proxy-Auth", b"Auth"), b"400"),
    "two grants": (
        lambda: asking().replace(b"\r\n\r\n", b"\r\nProxy-Authorization: Bearer x\r\n\r\n"),
        b"400",
    ),
    "an empty head": (lambda: b"\r\n\r\n", b"400"),
    "TLS": (lambda: b"\x16\x03\x01" + os.urandom(500), b"400"),
    "a long head": (lambda: b"C" * 100_000, b"400"),
    "nothing": (lambda: b"", b"400"),
}


@pytest.mark.parametrize("what", NOT_LET_IN)
def test_nobody_else_is(world: DoorWorld, what: str) -> None:
    made, status = NOT_LET_IN[what]
    found = world.answer(data := made())
    # What was not read of a long head breaks the answer off.
    assert found.startswith(b"HTTP/1.1 " + status) or (len(data) > 5000 and not found)
    assert world.agents.opened == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoRelay(), b"503"),
        (asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "no\x1b[31m"), b"502"),
    ],
)
def test_an_agent_that_is_not_there_is_told(world: DoorWorld, error: Any, status: bytes) -> None:
    world.agents.error = error
    assert world.answer(asking()).startswith(b"HTTP/1.1 " + status)


def test_who_says_nothing_holds_a_place_for_seconds(
    world: DoorWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "_HEAD_SECONDS", 0.3)
    with world.saying(b"CONNECT ") as made:
        assert everything(made).startswith(b"HTTP/1.1 400")


def test_there_is_an_end_to_how_many_come(
    world: DoorWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "CONNECTIONS", 2)
    with world.saying(asking()) as one, world.saying(asking()) as two:
        for made in (one, two):
            read(made, 26)
        with world.saying(asking()) as third:
            assert everything(third) == b""
    until(lambda: not world.door._tasks, "they are out")
    with world.saying(asking()) as made:
        assert read(made, 26).startswith(b"HTTP/1.1 200")


def test_an_end_of_either_side_ends_both(world: DoorWorld) -> None:
    with world.saying(asking()) as made:
        read(made, 26)
        made.shutdown(socket.SHUT_WR)
        assert everything(made) == b""
    until(lambda: not world.door._tasks, "nothing is left of it")
