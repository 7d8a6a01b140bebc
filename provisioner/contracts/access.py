"""The way in, as the provisioner tells of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID


@dataclass(frozen=True)
class WayIn:
    """The way into a rental's present machine, entered and found open at ``proven_at``.

    host, port: of the gateway. known_hosts_line: its key, as a line for OpenSSH's file.
    """

    host: str
    port: int
    known_hosts_line: str
    proven_at: datetime


@dataclass(frozen=True)
class AgentValues:
    """By which agent and platform know one another. pem: certificate and private key of the agent;
    token: what the platform shows. Both are secrets."""

    pem: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class RelayValues:
    """What a provider gives to the relay of a cluster (deploy/provider/relay.yaml).

    gateway: host:port, None where the platform has no way in. relay_seed: base64, a secret.
    gateway_key: its host key, one line. image: by digest. agent: of a cluster that the platform
    commands through its relay.
    """

    cluster: str
    gateway: str | None
    relay_seed: str = field(repr=False)
    gateway_key: str
    image: str
    agent: AgentValues | None = None


@dataclass(frozen=True)
class VisitView:
    """One connection of somebody: by which key and from where, or by the portal's terminal and as
    whom; when, how many bytes. ended_at None: still open, or its gateway was killed. why: what
    ended it, where we did."""

    id: UUID
    instance_id: UUID
    fingerprint: str | None
    user_ref: UUID | None
    address: str | None
    began_at: datetime
    ended_at: datetime | None
    bytes_in: int
    bytes_out: int
    why: str


# Who comes in to a port from the portal, with a grant (kernel.grants): where, and for what.
ENTER_PATH: Final = "/.gpuyard/enter"


def enter_verb(port: int) -> str:
    """What such a grant allows; its subject is the rental."""
    return f"ports.enter:{port}"


# Commands through the agent of a cluster (podtools/agent.go): what a grant for the gateway's door
# says, what the gateway opens a stream to, and the name in the agent's certificate.
COMMAND_VERB: Final = "cluster.command"
COMMAND_TARGET: Final = "api"
COMMAND_PORT: Final = 443
AGENT_HOST: Final = "agent.gpuyard.internal"


@dataclass(frozen=True)
class PortsSeen:
    """What is known of the ports of a rental's present machine.

    reachable: its cluster had a relay at some time. listening: as its reporter told last; None: the
    machine does not run, or its reporter tells nothing of ports. raw: port -> its number at the
    platform's address, of those with protocol tcp.
    """

    reachable: bool
    listening: Collection[int] | None
    raw: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedPort:
    """A port that gets a name. access_mode: public, token or team. protocol: http, or tcp for one
    that has a number instead (RawPort)."""

    port: int
    access_mode: str
    protocol: str = "http"
