"""What the objects of an instance are made of, as plain values. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Owned(Protocol):
    """What every object of an instance is labelled with."""

    @property
    def instance(self) -> str: ...
    @property
    def rental(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def generation(self) -> int: ...


@dataclass(frozen=True)
class LeaseSpec:
    """The lease of one instance's pod, called like the pod."""

    name: str
    instance: str
    rental: str
    tenant: str
    generation: int


@dataclass(frozen=True)
class ClaimMount:
    """A volume's claim, by name, in the main container. The check has no use for it."""

    claim: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class ToolsSpec:
    """What brings the tools of a pod and what they need to know (podtools/): the image with them
    alone, by digest; where reports go; the vendor's command for the figures of its cards."""

    image: str
    report_url: str
    usage: str


@dataclass(frozen=True)
class PartsSpec:
    """How the check sees that a card is split: a command that lists parts, and a regular expression
    for its lines."""

    check: str
    read: str


@dataclass(frozen=True)
class ToolKeys:
    """What the tools of one instance prove themselves with; private but for gateway_public."""

    report_token: str = field(default="", repr=False)
    host_private: str = field(default="", repr=False)
    gateway_public: str = ""


@dataclass(frozen=True)
class PodSpec:
    """Everything a pod is made of. Ids are the public ones: opaque, and what owners can quote."""

    pod_name: str
    instance: str
    rental: str
    tenant: str
    generation: int
    node: str
    resource: str
    runtime_class: str
    check: str
    runtime_tool: bool  # the node's runtime brings what the check calls, whatever the image
    tools: ToolsSpec
    gpus: int
    vcpus_milli: int
    ram_mib: int
    disk_mib: int
    image: str
    command: tuple[str, ...]
    ports: tuple[int, ...]
    env_names: tuple[str, ...]
    has_pull_secret: bool
    termination_grace: int
    grace_seconds: int
    server_version: str | None
    volumes: tuple[ClaimMount, ...] = ()
    egress: str = "internet"
    bandwidth_mbps: int | None = None  # each way
    notice: bool = False
    parts: PartsSpec | None = None  # of cards that can be split, ordered whole or in parts


@dataclass(frozen=True)
class ProbeSpec:
    """A pod of the platform's own that runs the tools once and ends. ``resource`` "": no card."""

    name: str
    node: str
    image: str
    command: tuple[str, ...]  # of podtools
    vcpus_milli: int
    ram_mib: int
    disk_mib: int
    seconds: int  # after which the kubelet ends it
    resource: str = ""
    runtime_class: str = ""
    server_version: str | None = None
