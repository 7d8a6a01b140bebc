"""Ports of machines by name: who comes is judged, counted, and asked for again while inside.

TLS ends in the operator's proxy in front. What is known of a port is kept for two seconds, and
asked for again every two while somebody is inside, so that a port that was taken away, changed its
mode or its token, and a machine that was ended, close within five. While the directory does not
answer, nobody new comes in and nobody is sent away.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog

from kernel.addresses import ForbiddenAddress, Network, is_within, unwrapped
from kernel.ids import public
from provisioner.instances.port_names import PortNames
from provisioner.streams.ports import pages
from provisioner.streams.ports.client import Client
from provisioner.streams.ports.doors import PortDirectory, PortDoor, Streams
from provisioner.streams.ports.headers import Headers, values
from provisioner.streams.ports.judge import Keys, Passed, Request, judge
from provisioner.streams.ports.pages import Answer
from provisioner.streams.relays import plain

log = structlog.get_logger(__name__)

# As the gateway's: what was taken away must stop within five seconds.
RECHECK_SECONDS: Final = 2.0
# How old an answer may be before somebody is refused by it: who just made a link uses it at once.
REFUSE_BY_SECONDS: Final = 0.25
# Streams to one machine. A page loads by six connections and holds a few websockets; a relay
# carries 2,000 for all machines of its cluster.
PER_RENTAL: Final = 200
# In all: a file each for the process, and some 10 KiB while idle. Beyond it they are closed.
CONNECTIONS: Final = 4000
# Names that strangers make up are remembered as well, and must not fill the memory.
_REMEMBERED: Final = 10_000

Name = tuple[UUID, int]


@dataclass
class Ports:
    """Listens from `start` to `stop`. portal: its address without a slash at the end."""

    directory: PortDirectory
    streams: Streams
    names: PortNames
    portal: str
    keys: Keys
    trusted: tuple[Network, ...] = ()
    per_rental: int = PER_RENTAL
    clients: set[Client] = field(default_factory=set)
    _counts: Counter[UUID] = field(default_factory=Counter)
    _known: dict[Name, tuple[float, PortDoor | None]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. OSError when it is taken."""
        self._server = await asyncio.start_server(self._arrived, host, port, backlog=512)
        self._rechecking = asyncio.create_task(self._recheck())
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more and end every connection."""
        self._rechecking.cancel()
        self._server.close()
        for each in list(self.clients):
            each.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if len(self.clients) >= CONNECTIONS or task is None:
            writer.transport.abort()
            return
        # Clients that vanish without a word are noticed by their system alone.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = Client(self, reader, writer)
        self.clients.add(client)
        self._tasks.add(task)
        try:
            await client.serve()
        except asyncio.CancelledError:
            pass  # by `stop`, which waits for this very end
        except Exception:
            log.exception("ports_client_failed")
            writer.transport.abort()
        finally:
            self.clients.discard(client)
            self._tasks.discard(task)

    # --- who may, and where

    async def judge(self, request: Request) -> tuple[PortDoor | None, Passed | Answer]:
        """The door that a request is for, and whether it may pass."""
        named = self.names.named(request.host)
        if named is None:
            return None, pages.NO_SUCH_NAME
        door, verdict = None, pages.ASK_AGAIN
        for age in (RECHECK_SECONDS, REFUSE_BY_SECONDS):
            try:
                door = await self.find(named, age)
            except Exception:
                log.exception("ports_question_failed")
                return None, pages.ASK_AGAIN
            found = self._judged(request, door)
            if isinstance(found, Passed):
                return door, found
            verdict = found
        return door, verdict

    def _judged(self, request: Request, door: PortDoor | None) -> Passed | Answer:
        if door is None:
            return pages.NO_SUCH_NAME
        verdict = judge(
            request,
            door,
            names=self.names,
            portal=self.portal,
            keys=self.keys,
            now=time.time(),
        )
        if isinstance(verdict, Passed) and door.way is None:
            return Answer(503, door.sentence)
        return verdict

    async def find(self, name: Name, age: float) -> PortDoor | None:
        """What is known of a port, not older than ``age`` seconds; raises as the directory does."""
        asked_at, door = self._known.get(name, (0.0, None))
        present = time.monotonic()
        if name in self._known and present - asked_at < age:
            return door
        door = await self.directory.find_port(*name)
        self._known.pop(name, None)  # the latest come last
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[name] = (present, door)
        return door

    def enter(self, client: Client, door: PortDoor) -> bool:
        """Count one more stream to the door's machine, unless it has as many as it may."""
        if self._counts[door.rental] >= self.per_rental:
            return False
        self._counts[door.rental] += 1
        return True

    def leave(self, client: Client, door: PortDoor) -> None:
        self._counts[door.rental] -= 1
        if not self._counts[door.rental]:
            del self._counts[door.rental]

    def address_of(self, writer: Any, headers: Headers) -> str:
        """Who asks, as the nearest proxies that are ours say it; nobody else's word counts."""
        peer = str(writer.get_extra_info("peername")[0])
        said = b",".join(values(headers, b"x-forwarded-for")).decode("latin-1").split(",")
        found = peer
        for text in [peer, *reversed(said)]:
            try:
                address = unwrapped(text.strip())
            except ForbiddenAddress:
                return found
            found = str(address)
            if not (address.is_loopback or is_within(address, self.trusted)):
                return found
        return found

    def note(self, event: str, door: PortDoor, why: str) -> None:
        """For our log: a stranger's words, made plain, and never what was asked for."""
        rental = public("rental", door.rental)
        log.info(event, rental=rental, port=door.port, why=plain(why))

    async def _recheck(self) -> None:
        """Ask again for everybody inside. While the directory cannot answer, they stay."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            inside = {(each.rental, each.port) for client in self.clients if (each := client.door)}
            for name in inside:
                try:
                    found = await self.find(name, RECHECK_SECONDS / 2)
                except Exception:
                    log.exception("ports_recheck_failed")
                    continue
                for client in list(self.clients):
                    door = client.door
                    if door and (door.rental, door.port) == name and door.outlived(found):
                        client.cut()
            for client in list(self.clients):
                if client.is_over(time.time()):
                    client.cut()
