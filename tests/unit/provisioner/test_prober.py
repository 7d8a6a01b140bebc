"""The proof of a way in: what counts as open, and the sentence for what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncssh
import pytest

from devstack.ports import free_port
from provisioner.instances import access_keys
from provisioner.streams import prober as prober_module
from provisioner.streams.prober import AT_ONCE, Prober

KEY = bytes(32)
RENTAL, MACHINE, CLUSTER = "ren_x", uuid4(), "clu_x"
PORT = 22022
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def published() -> str:
    return access_keys.public_line(access_keys.published_key(key=KEY))


def key_of(instance: UUID) -> str:
    return access_keys.private_text(access_keys.probe_key(instance, key=KEY))


class Desk:
    """Whose way in is due, and what was told of it."""

    def __init__(self, *due: UUID) -> None:
        self.due = list(due)
        self.open_once: list[UUID] = []
        self.asked: list[Collection[str]] = []
        self.told: list[tuple[UUID, str]] = []
        self.heard = asyncio.Event()
        self.broken = 0  # so many questions fail

    async def unproven(self, clusters: Collection[str]) -> list[tuple[str, UUID]]:
        self.asked.append(clusters)
        if self.broken:
            self.broken -= 1
            raise OSError("no database")
        return [(RENTAL, each) for each in self.due]

    async def doubted(self, clusters: Collection[str]) -> list[tuple[str, UUID]]:
        return [(RENTAL, each) for each in self.open_once]

    async def tried(self, instance_id: UUID, error: str) -> None:
        self.told.append((instance_id, error))
        if not error:
            self.due = [each for each in self.due if each != instance_id]
            self.open_once = [each for each in self.open_once if each != instance_id]
        self.heard.set()


class House(asyncssh.SSHServer):
    """A gateway that lets one machine's proof in and leads to what ``greets`` says."""

    def __init__(self, greets: bytes | None, seen: list[tuple[str, str, int]]) -> None:
        self._greets, self._seen, self._name = greets, seen, ""

    def begin_auth(self, username: str) -> bool:
        self._name = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        line = access_keys.public_line(access_keys.probe_key(MACHINE, key=KEY))
        return key.get_fingerprint() == access_keys.fingerprint(line)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        self._seen.append((self._name, dest_host, dest_port))
        greets = self._greets
        if greets is None:
            reason = "SSH of this machine does not answer"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, reason)

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greets)
            writer.close()

        return answer


@asynccontextmanager
async def gateway(
    greets: bytes | None, *, key: bytes = KEY
) -> AsyncIterator[tuple[int, list[tuple[str, str, int]]]]:
    """Its port, and (name, host, port) of all that was asked to be connected."""
    seen: list[tuple[str, str, int]] = []
    host_key = asyncssh.import_private_key(
        access_keys.private_text(access_keys.published_key(key=key))
    )
    server = await asyncssh.create_server(
        lambda: House(greets, seen), "127.0.0.1", 0, server_host_keys=[host_key]
    )
    try:
        yield server.get_port(), seen
    finally:
        server.close()
        await server.wait_closed()


def prober(port: int, desk: Desk, clusters: Collection[str] = (CLUSTER,)) -> Prober:
    return Prober(
        address=("127.0.0.1", port),
        published=published(),
        key_of=key_of,
        directory=desk,
        clusters=lambda: clusters,
        port=PORT,
    )


async def entered(greets: bytes | None, *, key: bytes = KEY, instance: UUID = MACHINE) -> str:
    async with gateway(greets, key=key) as (port, _):
        return await prober(port, Desk()).enter(RENTAL, instance)


def test_an_open_way_leads_to_the_machines_own_ssh_server() -> None:
    async def scene() -> None:
        async with gateway(b"SSH-2.0-Go\r\n") as (port, seen):
            assert await prober(port, Desk()).enter(RENTAL, MACHINE) == ""
            assert seen == [(RENTAL, "127.0.0.1", PORT)]

    asyncio.run(scene())


def test_what_is_in_the_way_is_said() -> None:
    assert asyncio.run(entered(b"HTTP/1.1 400\r\n")) == "something else answers in its place"
    assert asyncio.run(entered(None)) == "SSH of this machine does not answer"
    assert "0 bytes read" in asyncio.run(entered(b""))
    assert "2 bytes read" in asyncio.run(entered(b"SS"))
    assert "Permission denied" in asyncio.run(entered(b"SSH-", instance=uuid4()))


def test_another_host_key_is_no_proof() -> None:
    """Renters are told the published one: who shows another would be refused by their client."""
    assert "Host key is not trusted" in asyncio.run(entered(b"SSH-", key=bytes(31) + b"1"))


def test_a_closed_port_is_said() -> None:
    error = asyncio.run(prober(free_port(), Desk()).enter(RENTAL, MACHINE))
    assert "Connect call failed" in error


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober_module, "PATIENCE_SECONDS", 0.2)

    async def scene() -> str:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the prober goes
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await prober(port, Desk()).enter(RENTAL, MACHINE)

    assert asyncio.run(scene()) == "no answer in time"


async def run_until_told(port: int, desk: Desk, clusters: Collection[str] = (CLUSTER,)) -> None:
    running = prober(port, desk, clusters)
    running.start()
    await asyncio.wait_for(desk.heard.wait(), 10)
    await running.stop()


def test_what_is_due_is_tried_and_told() -> None:
    async def scene() -> Desk:
        desk = Desk(MACHINE)
        async with gateway(b"SSH-2.0-Go\r\n") as (port, _):
            await run_until_told(port, desk)
        return desk

    desk = asyncio.run(scene())
    assert desk.told == [(MACHINE, "")]
    assert set(desk.asked[0]) == {CLUSTER}


def test_one_that_is_doubted_is_tried_too() -> None:
    async def scene() -> Desk:
        desk = Desk()
        desk.open_once = [MACHINE]
        async with gateway(b"SSH-2.0-Go\r\n") as (port, _):
            await run_until_told(port, desk)
        return desk

    assert asyncio.run(scene()).told == [(MACHINE, "")]


def test_a_closed_way_is_told_with_its_sentence() -> None:
    async def scene() -> Desk:
        desk = Desk(MACHINE)
        async with gateway(None) as (port, _):
            await run_until_told(port, desk)
        return desk

    assert asyncio.run(scene()).told[0] == (MACHINE, "SSH of this machine does not answer")


def test_a_question_that_fails_is_asked_again() -> None:
    async def scene() -> Desk:
        desk = Desk(MACHINE)
        desk.broken = 1
        async with gateway(b"SSH-") as (port, _):
            await run_until_told(port, desk)
        return desk

    assert asyncio.run(scene()).told == [(MACHINE, "")]


def test_nobody_is_asked_for_without_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def scene() -> Desk:
        desk, enough = Desk(MACHINE), asyncio.Event()

        def none() -> Collection[str]:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            return ()

        monkeypatch.setattr(prober_module, "PERIOD_SECONDS", 0)
        running = prober(free_port(), desk)
        monkeypatch.setattr(running, "_clusters", none)
        running.start()
        await asyncio.wait_for(enough.wait(), 10)
        await running.stop()
        return desk

    assert asyncio.run(scene()).asked == []


def test_one_machine_is_tried_once_at_a_time_and_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[UUID] = []

    async def scene() -> None:
        desk, rounds, enough = Desk(*(uuid4() for _ in range(AT_ONCE + 8))), 0, asyncio.Event()
        running = prober(free_port(), desk)

        async def enter(name: str, instance: UUID) -> str:
            tried.append(instance)
            await asyncio.Event().wait()  # for as long as the test lasts
            return ""

        def clusters() -> Collection[str]:
            nonlocal rounds
            rounds += 1
            if rounds == 4:
                enough.set()
            return (CLUSTER,)

        monkeypatch.setattr(prober_module, "PERIOD_SECONDS", 0)
        monkeypatch.setattr(running, "enter", enter)
        monkeypatch.setattr(running, "_clusters", clusters)
        running.start()
        await asyncio.wait_for(enough.wait(), 10)
        await running.stop()

    asyncio.run(scene())
    assert len(tried) == len(set(tried)) == AT_ONCE
