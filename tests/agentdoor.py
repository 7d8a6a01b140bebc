"""The gateway's door for commands, before a stand-in for relays that leads to local ports."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from provisioner.streams.agents import AgentDoor
from provisioner.streams.relays import Relays

KEY = b"g" * 32


class Agents:
    """In place of relays: what is opened leads to a local port. error: instead of that."""

    def __init__(self) -> None:
        self.port = 0
        self.error: Exception | None = None
        self.opened: list[tuple[str, str, int]] = []

    async def stream(self, cluster: str, target: str, port: int) -> tuple[Any, Any]:
        self.opened.append((cluster, target, port))
        if self.error is not None:
            raise self.error
        return await asyncio.open_connection("127.0.0.1", self.port)


class DoorWorld:
    """The door on an event loop of its own thread; `port`: where it listens."""

    def __init__(self, key: bytes = KEY) -> None:
        self.agents = Agents()
        self.door = AgentDoor(cast("Relays", self.agents), key)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port: int = self.call(self.door.start("127.0.0.1", 0))

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    def stop(self) -> None:
        self.call(self.door.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    @contextmanager
    def saying(self, data: bytes) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as made:
            made.sendall(data)
            yield made

    def answer(self, data: bytes) -> bytes:
        with self.saying(data) as made:
            made.shutdown(socket.SHUT_WR)
            return everything(made)


def everything(made: socket.socket) -> bytes:
    """Until its end, however it ends."""
    found = b""
    try:
        while got := made.recv(65536):
            found += got
    except ConnectionResetError:
        pass
    return found
