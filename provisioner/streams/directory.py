"""What the gateway asks, answered from the database: each question in a thread, one statement.

A rental's name lets in whoever has one of its keys. The same name with `+` and a user's id is a
terminal of the portal: it has one key, made for this machine and this person, whose private half
the streams process alone makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections

from kernel.ids import BadId, parse, public
from provisioner.contracts import InstanceState
from provisioner.instances import access_keys, entry, raw_ports, shut
from provisioner.instances.state import COMING_UP
from provisioner.kube.manifests import SSH_PORT
from provisioner.streams.doors import Closed, Door
from provisioner.streams.ports.doors import PortDoor, Way
from provisioner.streams.relays import RelayKey

# Each has a connection of its own that stays: a gateway asks all the time. More would only queue in
# the database.
_THREADS: Final = 4
# It may answer: the pod was started and nobody asked for its end.
_OPEN: Final = frozenset(
    {
        InstanceState.STARTING,
        InstanceState.READY,
        InstanceState.DEGRADED,
        InstanceState.UNREACHABLE,
    }
)
STOPPED: Final = "this machine does not run; start it and connect again"
STOPPING: Final = "this machine is being stopped"
STARTING: Final = "this machine is starting; connect again in a moment"
T = TypeVar("T")


class TableDirectory:
    """The `gateway.Directory` and `PortDirectory` of a running platform, and its book of visits.

    port: of every machine's SSH server.
    """

    port = SSH_PORT

    def __init__(self) -> None:
        self._key: bytes = settings.GPUYARD_SEALING_KEY
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="directory")

    async def find(self, name: str) -> Door | Closed | None:
        """None for what is no rental's id, and for rentals that have ended."""
        try:
            rental_ref, user_ref = read_name(name)
        except BadId:
            return None
        found = await self._ask(partial(entry.found, rental_ref))
        return None if found is None else self._leads(found, user_ref)

    async def find_port(self, rental: UUID, port: int) -> PortDoor | None:
        """None for rentals that do not exist or have ended, and for ports without a name."""
        found = await self._ask(partial(entry.found, rental))
        if found is None or port not in found.ports:
            return None
        sentence = _closed(found)
        way = None
        if not sentence and found.instance_id is not None and found.cluster_id is not None:
            way = Way(
                instance=public("instance", found.instance_id),
                cluster=public("cluster", found.cluster_id),
                target=f"{found.pod_name}.{found.namespace}",
            )
        version = found.token_version
        return PortDoor(
            rental=rental,
            port=port,
            access_mode=found.ports[port].access_mode,
            protocol=found.ports[port].protocol,
            version=version,
            token=access_keys.access_token(rental, version, key=self._key),
            way=way,
            sentence=sentence,
        )

    async def raw_ports(self) -> list[tuple[int, UUID, int]]:
        """(public port, rental, port of its machine), all that are given."""
        return await self._ask(raw_ports.given)

    async def prepare_raw_ports(self) -> None:
        """Before the first look at them."""
        await self._ask(raw_ports.prepare)

    def _leads(self, found: entry.Found, user_ref: UUID | None) -> Door | Closed:
        authorized = {each: each for each in found.authorized} if user_ref is None else {}
        if found.instance_id is None or found.cluster_id is None:
            return Closed(STOPPED, authorized)
        if user_ref is None:
            # The platform itself comes in like a renter, to see whether the way is open.
            made, who = access_keys.probe_key(found.instance_id, key=self._key), PROBE
        else:
            made = access_keys.terminal_key(found.instance_id, user_ref, key=self._key)
            who = _PORTAL + user_ref.hex
        authorized[access_keys.fingerprint(access_keys.public_line(made))] = who
        coming = found.state in COMING_UP
        if not (coming and found.wanted) and (sentence := _closed(found)):
            return Closed(sentence, authorized)
        host = access_keys.host_key(found.instance_id, key=self._key)
        client = access_keys.gateway_key(found.instance_id, key=self._key)
        return Door(
            instance=public("instance", found.instance_id),
            cluster=public("cluster", found.cluster_id),
            target=f"{found.pod_name}.{found.namespace}",
            port=self.port,
            host_key=access_keys.public_line(host),
            client_key=access_keys.private_text(client),
            authorized=authorized,
            coming=coming,
        )

    async def relay(self, name: str) -> RelayKey | None:
        """None for what is no cluster's id, and for clusters that are not there."""
        try:
            cluster_id = parse("cluster", name)
        except BadId:
            return None
        version = await self._ask(partial(entry.relay_version, cluster_id))
        if version is None:
            return None
        made = access_keys.relay_key(cluster_id, version, key=self._key)
        return RelayKey(cluster=name, public_key=access_keys.public_line(made))

    # --- the book of visits

    async def came(self, *, name: str, instance: str, who: str, address: str) -> UUID | None:
        """Somebody is inside; the visit's id. The platform's own proofs are nobody's visit."""
        if who == PROBE:
            return None
        rental_ref, user_ref = read_name(name)
        came = partial(entry.came, rental_ref=rental_ref, instance_id=parse("instance", instance))
        if user_ref is not None:
            return await self._ask(partial(came, user_ref=user_ref))
        return await self._ask(partial(came, fingerprint=who, address=address))

    async def went(self, visit: UUID, *, bytes_in: int, bytes_out: int, why: str) -> None:
        """They have left."""
        await self._ask(partial(entry.went, visit, bytes_in=bytes_in, bytes_out=bytes_out, why=why))

    # --- proof

    async def unproven(self, clusters: Collection[str]) -> list[tuple[str, UUID]]:
        """(rental's name, instance) whose way in is due for a try, behind relays of these."""
        refs = [parse("cluster", each) for each in clusters]
        rows = await self._ask(partial(entry.unproven, clusters=refs))
        return [(public("rental", rental), instance) for rental, instance in rows]

    async def doubted(self, clusters: Collection[str]) -> list[tuple[str, UUID]]:
        """The same of machines that were open once."""
        refs = [parse("cluster", each) for each in clusters]
        rows = await self._ask(partial(shut.doubted, clusters=refs))
        return [(public("rental", rental), instance) for rental, instance in rows]

    async def tried(self, instance_id: UUID, error: str) -> None:
        """A try ended; error "": the way was open."""
        await self._ask(partial(entry.tried, instance_id, error=error))

    async def _ask(self, question: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _answered, question)


def _closed(found: entry.Found) -> str:
    """Why nobody can come in to a rental's machine now; empty when it is open."""
    if found.instance_id is None or found.state in (None, InstanceState.GONE):
        return STOPPED
    if not found.wanted:
        return STOPPING
    return "" if found.state in _OPEN and found.created else STARTING


# Who the platform's own key is, in place of a fingerprint, and a member at the portal's terminal.
PROBE: Final = "proof"
_PORTAL: Final = "portal:"


def terminal_name(rental_ref: UUID, user_ref: UUID) -> str:
    """What the portal's terminal is called at the gateway."""
    return f"{public('rental', rental_ref)}+{user_ref.hex}"


def read_name(name: str) -> tuple[UUID, UUID | None]:
    """Whose machine a name at the gateway is, and for which member at the portal. BadId."""
    rental, plus, user = name.partition("+")
    if not plus:
        return parse("rental", rental), None
    try:
        user_ref = UUID(hex=user)
    except ValueError as error:
        raise BadId("not a user's id") from error
    if user_ref.hex != user:  # each has one way to be written
        raise BadId("not a user's id")
    return parse("rental", rental), user_ref


def _answered(question: Callable[[], T]) -> T:
    """On this thread's own connection, renewed where the database has gone away meanwhile."""
    close_old_connections()
    return question()
