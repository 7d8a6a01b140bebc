"""Who is inside machines by their ports, however they came: counted, and asked for again.

What is known of a port is kept for two seconds, and asked for again every two while somebody is
inside, so that a port that was taken away, changed its mode or its token, and a machine that was
ended, close within five. While the directory does not answer, nobody new comes in and nobody is
sent away.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

import structlog

from kernel.ids import public
from provisioner.streams.ports.doors import PortDirectory, PortDoor, Streams
from provisioner.streams.relays import plain

log = structlog.get_logger(__name__)

# As the gateway's: what was taken away must stop within five seconds.
RECHECK_SECONDS: Final = 2.0
# Streams to one machine. A page loads by six connections and holds a few websockets; a relay
# carries 2,000 for all machines of its cluster.
PER_RENTAL: Final = 200
# In all: a file each for the process, and some 10 KiB while idle. Beyond it they are closed.
CONNECTIONS: Final = 4000
# Names that strangers make up are remembered as well, and must not fill the memory.
_REMEMBERED: Final = 10_000

Name = tuple[UUID, int]


class Guest(Protocol):
    """One connection from outside."""

    @property
    def door(self) -> PortDoor | None:
        """What it has a stream to."""

    def is_over(self, now: float) -> bool:
        """Whether what let it in has expired."""

    def cut(self) -> None:
        """End it now, in the middle of whatever it does."""


@dataclass
class Inside:
    """From `start` to `stop`; the listeners around it hand their guests in."""

    directory: PortDirectory
    streams: Streams
    per_rental: int = PER_RENTAL
    guests: set[Guest] = field(default_factory=set)
    _counts: Counter[UUID] = field(default_factory=Counter)
    _known: dict[Name, tuple[float, PortDoor | None]] = field(default_factory=dict)

    def start(self) -> None:
        self._rechecking = asyncio.create_task(self._recheck())

    def stop(self) -> None:
        """Ask no more, and end every connection."""
        self._rechecking.cancel()
        for each in list(self.guests):
            each.cut()

    @property
    def full(self) -> bool:
        return len(self.guests) >= CONNECTIONS

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

    def enter(self, door: PortDoor) -> bool:
        """Count one more stream to the door's machine, unless it has as many as it may."""
        if self._counts[door.rental] >= self.per_rental:
            return False
        self._counts[door.rental] += 1
        return True

    def leave(self, door: PortDoor) -> None:
        self._counts[door.rental] -= 1
        if not self._counts[door.rental]:
            del self._counts[door.rental]

    def note(self, event: str, door: PortDoor, why: str) -> None:
        """For our log: a stranger's words, made plain, and never what was asked for."""
        rental = public("rental", door.rental)
        log.info(event, rental=rental, port=door.port, why=plain(why))

    async def _recheck(self) -> None:
        """Ask again for everybody inside. While the directory cannot answer, they stay."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            named = {(each.rental, each.port) for guest in self.guests if (each := guest.door)}
            for name in named:
                try:
                    found = await self.find(name, RECHECK_SECONDS / 2)
                except Exception:
                    log.exception("ports_recheck_failed")
                    continue
                for guest in list(self.guests):
                    door = guest.door
                    if door and (door.rental, door.port) == name and door.outlived(found):
                        guest.cut()
            for guest in list(self.guests):
                if guest.is_over(time.time()):
                    guest.cut()
