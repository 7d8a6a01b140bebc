"""What the proxy asks of whoever knows the machines: whether a port has a name, who may, where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

PUBLIC: Final = "public"
TEAM: Final = "team"
HTTP: Final = "http"
TCP: Final = "tcp"


@dataclass(frozen=True)
class Way:
    """To a machine that runs. cluster: whose relay leads there; target: POD.NAMESPACE there."""

    instance: str
    cluster: str
    target: str


@dataclass(frozen=True)
class PortDoor:
    """A port that its rental gave a name or a number of the platform's. access_mode: public, token
    or team; protocol: http, or tcp for whatever else.

    version: of the token; another one ends what the one before opened. way None: the machine does
    not run, and ``sentence`` says why.
    """

    rental: UUID
    port: int
    access_mode: str
    version: int
    token: str = field(repr=False)
    way: Way | None
    sentence: str = ""
    protocol: str = HTTP

    def outlived(self, found: PortDoor | None) -> bool:
        """Whether what was opened by this may not go on, now that it is found to be ``found``."""
        if found is None or (found.rental, found.port) != (self.rental, self.port):
            return True
        if found.way != self.way or found.access_mode != self.access_mode:
            return True
        if found.protocol != self.protocol:
            return True
        return self.access_mode != PUBLIC and found.version != self.version


class PortDirectory(Protocol):
    """Which ports have names; asked every two seconds for each that is used."""

    async def find_port(self, rental: UUID, port: int) -> PortDoor | None:
        """None for a rental that does not exist or has ended, and for a port without a name."""


class Streams(Protocol):
    """Bytes to and from a port of a pod: `Relays`, and what stands in for it."""

    async def stream(self, cluster: str, target: str, port: int) -> tuple[Any, Any]:
        """A reader and a writer; raises as `Relays.stream` does."""
