"""A cluster's agent, as tests meet it: the real program beside an API server, and a gateway with
its door on an event loop of their own thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings as live
from django.db import transaction

from kernel.ids import new_id, public
from provisioner.facade import access, agents
from provisioner.instances import access_keys
from provisioner.models import Cluster
from provisioner.streams.agents import AgentDoor
from provisioner.streams.relays import RelayKey
from tests.relayed import Book, RelayProcess, Served, relaying_at
from tests.sshpod import until


def register_agent() -> UUID:
    """A cluster as its owner registers it who has no address to give."""
    key = new_id()
    with transaction.atomic():
        agents.register_agent_cluster(
            cluster_id=key, name="behind NAT", provider_ref=uuid4(), datacenter_ref=uuid4()
        )
    return key


@dataclass
class Platform:
    """Gateway and door. `door_port`: where GPUYARD_AGENT_DOOR has to lead."""

    serving: Served
    book: Book
    door: AgentDoor
    door_port: int

    def trust(self, cluster_id: UUID) -> None:
        """The present key of the cluster's relay may come in."""
        name, key = public("cluster", cluster_id), live.GPUYARD_SEALING_KEY
        version = Cluster.objects.get(pk=cluster_id).relay_version
        made = access_keys.relay_key(cluster_id, version, key=key)
        self.book.relays[name] = RelayKey(name, access_keys.public_line(made))

    def is_connected(self, cluster_id: UUID) -> bool:
        return public("cluster", cluster_id) in self.serving.gateway.relays.clusters()


@contextmanager
def platform() -> Iterator[Platform]:
    published = access_keys.published_key(key=live.GPUYARD_SEALING_KEY)
    book = Book()
    serving = Served(book, access_keys.private_text(published))
    door = AgentDoor(serving.gateway.relays, live.GPUYARD_GRANT_KEY)
    port = serving.call(door.start("127.0.0.1", 0))
    try:
        yield Platform(serving, book, door, port)
    finally:
        serving.call(door.stop())
        serving.stop()


def write_account(folder: Path, kube: Any, token: str) -> Path:
    """A service account's folder, as it is mounted into a pod."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_text(kube.ca_pem)
    return folder


def write_secret(folder: Path, cluster_id: UUID) -> Path:
    """The Secret of the agent, with what its owner was told."""
    with transaction.atomic():
        values = access.relay_values(cluster_id=cluster_id, replace=False)
    assert values.agent is not None
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("relay.seed", values.relay_seed),
        ("gateway.pub", values.gateway_key),
        ("agent.pem", values.agent.pem),
        ("agent.token", values.agent.token),
    ):
        (folder / name).write_text(text)
    return folder


@contextmanager
def running_agent(
    binary: Path,
    folder: Path,
    kube: Any,
    on: Platform,
    cluster_id: UUID,
    *,
    token: str = "",
) -> Iterator[RelayProcess]:
    """Connected; token: of another account than the bundle's."""
    on.trust(cluster_id)
    secret = write_secret(folder / "secret", cluster_id)
    account = write_account(folder / "account", kube, token or kube.token)
    more = ("-cluster", public("cluster", cluster_id), "-commands")
    with relaying_at(kube.api_url, account, binary, secret, on.serving.port, more=more) as agent:
        until(lambda: on.is_connected(cluster_id), f"it is connected: {agent.log}", deadline_s=20)
        yield agent
