"""Ports of machines by name: who comes is judged, and let in to what `inside.py` counts.

TLS ends in the operator's proxy in front.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog

from kernel.addresses import ForbiddenAddress, Network, is_within, unwrapped
from provisioner.instances.port_names import PortNames
from provisioner.streams.ports import pages
from provisioner.streams.ports.client import Client
from provisioner.streams.ports.doors import HTTP, PortDoor
from provisioner.streams.ports.headers import Headers, values
from provisioner.streams.ports.inside import RECHECK_SECONDS, Inside
from provisioner.streams.ports.judge import Keys, Passed, Request, judge
from provisioner.streams.ports.listening import Tasks
from provisioner.streams.ports.pages import Answer

log = structlog.get_logger(__name__)

# How old an answer may be before somebody is refused by it: who just made a link uses it at once.
REFUSE_BY_SECONDS: Final = 0.25


@dataclass
class Ports:
    """Listens from `start` to `stop`. portal: its address without a slash at the end."""

    inside: Inside
    names: PortNames
    portal: str
    keys: Keys
    trusted: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        self._tasks = Tasks(self.inside)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. OSError when it is taken."""
        self._server = await asyncio.start_server(self._arrived, host, port, backlog=512)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more and end every connection."""
        self._server.close()
        await self._tasks.stop()
        await self._server.wait_closed()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._tasks.serve(Client(self, reader, writer), writer)

    # --- who may, and where

    async def judge(self, request: Request) -> tuple[PortDoor | None, Passed | Answer]:
        """The door that a request is for, and whether it may pass."""
        named = self.names.named(request.host)
        if named is None:
            return None, pages.NO_SUCH_NAME
        door, verdict = None, pages.ASK_AGAIN
        for age in (RECHECK_SECONDS, REFUSE_BY_SECONDS):
            try:
                door = await self.inside.find(named, age)
            except Exception:
                log.exception("ports_question_failed")
                return None, pages.ASK_AGAIN
            found = self._judged(request, door)
            if isinstance(found, Passed):
                return door, found
            verdict = found
        return door, verdict

    def _judged(self, request: Request, door: PortDoor | None) -> Passed | Answer:
        if door is None or door.protocol != HTTP:
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
