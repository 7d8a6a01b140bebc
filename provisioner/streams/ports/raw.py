"""Raw TCP ports: a number at the platform's address that leads to one port of one machine.

What is spoken there is the renter's own, so nothing is asked of who comes: such a port is for
anybody, and the program behind it has to ask for itself. The numbers are in a table
(instances/raw_ports.py); every gateway listens on all that are given to somebody, and looks every
two seconds which those are. Behind a number whose machine does not run, connections are closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import asyncssh
import structlog

from provisioner.streams.ports.carry import pipe
from provisioner.streams.ports.doors import TCP, PortDoor
from provisioner.streams.ports.inside import RECHECK_SECONDS, Inside, Name
from provisioner.streams.ports.listening import Tasks

log = structlog.get_logger(__name__)

# For one direction to go on once the other has ended, as when a file is sent and its checksum
# comes back much later. Whoever forgets to hang up holds one of the machine's streams as long.
HALF_OPEN_SECONDS: Final = 3600


class Numbers(Protocol):
    """Which numbers are given to whom."""

    async def raw_ports(self) -> list[tuple[int, UUID, int]]:
        """(public port, rental, port of its machine), all that there are."""


@dataclass
class RawPorts:
    """Listens at one address, from `start` to `stop`, on the numbers that are given."""

    inside: Inside
    numbers: Numbers
    host: str
    _servers: dict[int, tuple[Name, asyncio.Server]] = field(default_factory=dict)
    _refused: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._tasks = Tasks(self.inside)

    def start(self) -> None:
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Listen no more and end every connection."""
        self._following.cancel()
        for number in list(self._servers):
            self._close(number)
        await self._tasks.stop()

    @property
    def listening(self) -> list[int]:
        """The numbers that can be connected to now."""
        return sorted(self._servers)

    async def _follow(self) -> None:
        """Listen on what is given, and no longer on what was taken back. While the table cannot
        be read, nothing changes."""
        while True:
            try:
                given = {each[0]: each[1:] for each in await self.numbers.raw_ports()}
            except Exception:
                log.exception("raw_ports_question_failed")
            else:
                await self._listen_on(given)
            await asyncio.sleep(RECHECK_SECONDS)

    async def _listen_on(self, given: dict[int, Name]) -> None:
        for number, (name, _) in list(self._servers.items()):
            if given.get(number) != name:
                self._close(number)
        self._refused &= given.keys()
        for number in given.keys() - self._servers.keys():
            await self._open(number, given[number])

    async def _open(self, number: int, name: Name) -> None:
        async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._tasks.serve(RawGuest(self.inside, name, reader, writer), writer)

        try:
            server = await asyncio.start_server(arrived, self.host, number, backlog=64)
        except OSError as error:
            if number not in self._refused:  # tried again every two seconds, and said once
                log.error("raw_port_taken", port=number, why=str(error))
            self._refused.add(number)
            return
        self._refused.discard(number)
        self._servers[number] = (name, server)

    def _close(self, number: int) -> None:
        self._servers.pop(number)[1].close()


class RawGuest:
    """One connection, led on to a port of a machine."""

    def __init__(self, inside: Inside, name: Name, reader: Any, writer: Any) -> None:
        self._inside, self._name = inside, name
        self._reader, self._writer = reader, writer
        self._pod: tuple[Any, Any] | None = None
        self.door: PortDoor | None = None

    def is_over(self, now: float) -> bool:
        """Never by itself."""
        return False

    def cut(self) -> None:
        if self._pod is not None:
            self._pod[1].close()
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Until both have hung up; closed at once where nothing is behind the number."""
        try:
            door = await self._inside.find(self._name, RECHECK_SECONDS)
            if door is not None and door.protocol == TCP and door.way is not None:
                await self._lead_on(door)
        except OSError:
            self._writer.transport.abort()
        finally:
            self._writer.close()

    async def _lead_on(self, door: PortDoor) -> None:
        assert door.way is not None
        if not self._inside.enter(door):
            self._inside.note("raw_port_full", door, "as many as one machine may have")
            return
        try:
            self._pod = await self._inside.streams.stream(
                door.way.cluster, door.way.target, door.port
            )
            self.door = door
            await pipe((self._reader, self._writer), self._pod, last_words=HALF_OPEN_SECONDS)
        except asyncssh.Error as error:
            # The relay says why in a sentence that is for our log.
            self._inside.note("raw_port_silent", door, str(error))
        finally:
            self.door = None
            if self._pod is not None:
                self._pod[1].close()
            self._inside.leave(door)
