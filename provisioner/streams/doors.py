"""What the gateway asks of whoever knows the machines: who may come in, and where that leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from provisioner.streams.relays import RelayDirectory


@dataclass(frozen=True)
class Door:
    """A machine that runs, or is coming up: then it may be entered as soon as it answers.

    authorized: who may come in, by the fingerprint of their key (SHA256:...).
    cluster: whose relay leads there, as in `RelayKey.cluster`; target: POD.NAMESPACE there; port:
    of its SSH server. host_key: public, one line as in a known_hosts file; client_key: private,
    OpenSSH's format.
    """

    instance: str
    cluster: str
    target: str
    port: int
    host_key: str
    client_key: str
    authorized: Mapping[str, str]
    coming: bool = False


@dataclass(frozen=True)
class Closed:
    """The name exists and leads nowhere now; told to those whose key would be let in."""

    sentence: str
    authorized: Mapping[str, str]


class Directory(RelayDirectory, Protocol):
    """Who may come in and where it leads; asked often, so it answers in a moment."""

    async def find(self, name: str) -> Door | Closed | None:
        """None for a name that does not exist."""
