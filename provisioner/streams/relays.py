"""The relays: connections that clusters have made to the gateway, and streams through them.

Provider's machines stand behind NAT, so nothing connects to them from here: a relay in the cluster
connects to the gateway, proves itself under the cluster's name, and carries what is opened here to
pods. It may ask for nothing itself. Where a pod is, and whether it may be reached, the relay finds
out from its own API server; what it says when it refuses is for our log and never for renters.

Several relays of a cluster may be here, as during an update; the newest is used. What runs through
an older one goes on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import asyncssh
import structlog

log = structlog.get_logger(__name__)

PREFIX = "clu_"
# A relay that vanished without a word is noticed after three of these. Its own patience is ten
# seconds, so by then it has mostly come anew.
KEEPALIVE_SECONDS = 5
# For a relay to be there when somebody wants to come in: a relay comes back within seconds of a
# restart of either side, so who waits gets in, and who waits in vain does not wait long.
WAIT_SECONDS = 10
# Two pods during an update, and each may know the gateway by two addresses; more is a fault, or one
# that comes and comes. The oldest leaves.
RELAYS_PER_CLUSTER = 8
# What may be on its way of one stream, in either direction: 25 MB/s at 80 ms. Less slows uploads
# over long ways, more is held here for everybody who reads slowly. The relay's side has the same.
WINDOW = 2 << 20
# What is kept of a relay's own words.
SENTENCE_LENGTH = 300

Channel = asyncssh.SSHTCPChannel[bytes]
Session = asyncssh.SSHTCPSession[bytes]


@dataclass(frozen=True)
class RelayKey:
    """Whose relay it is. public_key: one line, OpenSSH's format; cluster: as in `Door.cluster`."""

    cluster: str
    public_key: str


class RelayDirectory(Protocol):
    """Who may come in as a relay."""

    async def relay(self, name: str) -> RelayKey | None:
        """None for a cluster that does not exist, was removed or has no relay."""


class NoRelay(asyncssh.ChannelOpenError):
    """No relay of the cluster is connected, and none came in time."""

    def __init__(self) -> None:
        super().__init__(asyncssh.OPEN_CONNECT_FAILED, "no relay of this cluster is connected")


class Relays:
    """Those that are connected, by cluster. On one event loop."""

    def __init__(self) -> None:
        self._live: defaultdict[str, list[Relay]] = defaultdict(list)  # the newest last
        self._here: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def join(self, relay: Relay) -> None:
        """It may carry streams from now on."""
        live = self._live[relay.cluster]
        live.append(relay)
        self._here[relay.cluster].set()
        if len(live) > RELAYS_PER_CLUSTER:
            live[0].leave("newer relays of this cluster have come")

    def clusters(self) -> list[str]:
        """Those that can be reached now."""
        return [cluster for cluster, live in self._live.items() if live]

    def part(self, relay: Relay) -> None:
        """It is gone."""
        live = self._live[relay.cluster]
        with suppress(ValueError):  # it never came in
            live.remove(relay)
        if not live:
            self._here[relay.cluster].clear()

    async def find(self, cluster: str) -> Relay:
        """The newest relay of a cluster, waited for. NoRelay after ten seconds without one."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not self._live[cluster]:
                    await self._here[cluster].wait()
        except TimeoutError as error:
            raise NoRelay from error
        return self._live[cluster][-1]

    async def open(
        self, cluster: str, factory: Callable[[], Session], target: str, port: int
    ) -> tuple[Relay, Channel, Session]:
        """A stream to a port of a pod, which ``target`` names as POD.NAMESPACE.

        ChannelOpenError, with what the relay says, when the pod cannot be reached; NoRelay.
        """
        while True:
            relay = await self.find(cluster)
            try:
                return relay, *await relay.open(factory, target, port)
            except asyncssh.ChannelOpenError as error:
                if not relay.lost:
                    raise asyncssh.ChannelOpenError(error.code, plain(error.reason)) from error

    async def stream(
        self, cluster: str, target: str, port: int
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """`open` for who would rather read and write, bytes both ways; raises as it does.

        The writer's `write_eof` ends one direction, its `close` both. Once the relay is lost the
        reader raises asyncssh.Error, or ends if the relay was sent away.
        """
        _, channel, session = await self.open(
            cluster,
            asyncssh.stream.SSHTCPStreamSession,
            target,
            port,
        )
        assert isinstance(session, asyncssh.stream.SSHTCPStreamSession)
        return asyncssh.SSHReader(session, channel), asyncssh.SSHWriter(session, channel)


@dataclass
class Route:
    """What `asyncssh.connect` takes for a tunnel: a stream to one pod. `relay`: what it went by;
    `sent`, `received`: bytes to and from the pod, as they are on the line."""

    relays: Relays
    cluster: str
    relay: Relay | None = field(default=None, init=False)
    sent: int = field(default=0, init=False)
    received: int = field(default=0, init=False)

    async def create_connection(
        self, session_factory: Callable[[], Session], remote_host: str, remote_port: int
    ) -> tuple[Channel, Session]:
        def counted() -> Session:
            session = session_factory()
            receive = session.data_received

            def received(data: bytes, datatype: asyncssh.DataType) -> None:
                self.received += len(data)
                receive(data, datatype)

            # The library counts nothing, and makes the session itself.
            session.data_received = received  # type: ignore[method-assign]
            return session

        self.relay, channel, session = await self.relays.open(
            self.cluster, counted, remote_host, remote_port
        )
        send = channel.write

        def sent(data: bytes, datatype: asyncssh.DataType = None) -> None:
            self.sent += len(data)
            send(data, datatype)

        channel.write = sent  # type: ignore[method-assign]
        return channel, session

    @property
    def lost(self) -> bool:
        """Whether it ended because its relay did."""
        return self.relay is not None and self.relay.lost


class Relay:
    """One relay's connection, from the moment that it says its name."""

    def __init__(
        self,
        directory: RelayDirectory,
        relays: Relays,
        conn: asyncssh.SSHServerConnection,
        name: str,
    ) -> None:
        self._directory, self._relays, self._conn = directory, relays, conn
        self._key: RelayKey | None = None
        self.name = name
        self.proven = False
        self.lost = False

    @property
    def cluster(self) -> str:
        return self._key.cluster if self._key else ""

    async def begin_auth(self, username: str) -> bool:
        self._key = await self._directory.relay(username)
        return True

    def proves(self, key: asyncssh.SSHKey) -> bool:
        """Whether that is its key; the library has checked, or will, who holds it."""
        if self._key is not None:
            known = asyncssh.import_public_key(self._key.public_key)
            self.proven = key.public_data == known.public_data
        return self.proven

    def enter(self) -> None:
        self._conn.set_keepalive(KEEPALIVE_SECONDS)
        self._relays.join(self)
        log.info("gateway_relay_in", cluster=self.cluster)

    def left(self, exc: Exception | None) -> None:
        self.lost = True
        if self.proven:
            log.info("gateway_relay_out", cluster=self.cluster, why=plain(str(exc or "")))
            self._relays.part(self)

    def outlived(self, found: RelayKey | None) -> str:
        """Why this relay may not go on; empty when it may."""
        if found is None:
            return "this cluster has no relay any more"
        if found != self._key:
            return "this relay's key was replaced"
        return ""

    def leave(self, sentence: str) -> None:
        """Send it away; what it carries ends."""
        self.lost = True
        self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, f"gpuyard: {sentence}")

    async def open(
        self, factory: Callable[[], Session], target: str, port: int
    ) -> tuple[Channel, Session]:
        """A stream; ChannelOpenError. Who gives up waiting leaves no stream behind: the library
        would forget it, and the relay keep it open."""
        opening = asyncio.ensure_future(
            self._conn.create_connection(factory, target, port, window=WINDOW)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_hang_up)
            raise


def _hang_up(opening: asyncio.Future[tuple[Channel, Session]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()


def plain(text: str) -> str:
    """A stranger's words, fit for one line of a log."""
    return "".join(each if " " <= each <= "~" else "?" for each in text[:SENTENCE_LENGTH])
