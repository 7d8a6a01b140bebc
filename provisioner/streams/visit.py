"""One renter's connection, and the one into the pod: what is asked of the first is carried on."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import asyncssh
import structlog
from asyncssh.forward import SSHForwarder

from provisioner.streams.doors import Closed, Directory, Door
from provisioner.streams.relay import Outer
from provisioner.streams.relays import WAIT_SECONDS, NoRelay, Relays, Route, plain
from provisioner.streams.visits import Leave, Visits

log = structlog.get_logger(__name__)

# Clients that vanished are noticed after three of these.
KEEPALIVE_SECONDS = 30
# To a pod that is running and close; one that does not answer by then is down. A relay gives up
# after eight.
CONNECT_SECONDS = 10
# Of a connection that has sessions and no ports: somebody forgot it, and it holds a place. Editors
# and tunnels say nothing for days and mean it.
IDLE_SECONDS = 24 * 3600
# Between two tries to enter a machine that is coming up: at first often, since most come within
# seconds; then an eighth of the time waited, up to the last: an image may take half an hour.
COMING_SECONDS = (0.2, 5.0)
# For clients to read how their sessions ended before the connection is closed.
LAST_WORDS_SECONDS = 2


class Visit:
    """One renter's connection, and the one into the pod, opened with the first thing asked."""

    def __init__(
        self,
        directory: Directory,
        relays: Relays,
        visits: Visits,
        conn: asyncssh.SSHServerConnection,
        name: str,
    ) -> None:
        self._directory, self._relays, self._visits = directory, relays, visits
        self._conn = conn
        self._route: Route | None = None
        self._found: Door | Closed | None = None
        self._inward: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._sessions: set[Outer] = set()
        self._all_told = asyncio.Event()
        self.name = name
        self.who = ""
        self._fingerprint = ""
        self._why = ""
        self._leave: Leave | None = None
        self._heard_at = time.monotonic()
        self._has_ports = False
        self._is_gone = False

    # --- who it is

    async def begin_auth(self, username: str) -> bool:
        self._found = await self._directory.find(username)
        return True

    def proves(self, key: asyncssh.SSHKey) -> bool:
        """Whether that key may come in; the library has checked, or will, who holds it."""
        if self._found is None:
            return False
        self._fingerprint = key.get_fingerprint("sha256")
        self.who = self._found.authorized.get(self._fingerprint, "")
        return self.proven

    @property
    def proven(self) -> bool:
        return bool(self.who)

    def enter(self) -> None:
        if isinstance(self._found, Closed):
            self.leave(self._found.sentence)
        else:
            log.info("gateway_in", name=self.name, who=self.who, key=self._fingerprint)
            if self._found is not None:
                self._leave = self._visits.enter(
                    name=self.name,
                    instance=self._found.instance,
                    who=self.who,
                    address=str(self._conn.get_extra_info("peername")[0]),
                )

    def left(self, exc: Exception | None) -> None:
        self._is_gone = True
        if self._leave is not None:
            log.info("gateway_out", name=self.name, who=self.who, why=self._why)
            route = self._route
            self._leave(route.sent if route else 0, route.received if route else 0, self._why)
        if self._inward is not None:
            self._inward.add_done_callback(_close)

    def outlived(self, found: Door | Closed | None) -> str:
        """Why this connection may not go on; empty when it may."""
        if found is None:
            return "this machine was ended"
        known = self._fingerprint in found.authorized
        # Before its keys: each machine has others for terminals. Who still waits goes along.
        anew = isinstance(found, Door) and found.instance != self._instance
        if anew and not (known and self._waits):
            return "this machine was started anew; connect again"
        if not known:
            return "this key may not come in any more"
        if isinstance(found, Closed):
            return found.sentence
        if not self._has_ports and time.monotonic() - self._heard_at > IDLE_SECONDS:
            return "nothing was said for a day"
        return ""

    def leave(self, sentence: str) -> None:
        """Send it away with a sentence: in each session, and for clients that have none."""
        self._why = self._why or sentence
        for each in list(self._sessions):
            each.say(f"gpuyard: {sentence}")
        self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, f"gpuyard: {sentence}")

    @property
    def _waits(self) -> bool:
        return self._inward is not None and not self._inward.done()

    @property
    def _instance(self) -> str:
        return self._found.instance if isinstance(self._found, Door) else ""

    # --- what it asks

    async def inward(self) -> asyncssh.SSHClientConnection:
        """The connection into the pod, waited for while that is coming up. ChannelOpenError, with a
        sentence, when there is none."""
        if self._inward is None:
            self._inward = asyncio.create_task(self._arrive())
        try:
            return await asyncio.shield(self._inward)
        except (OSError, asyncssh.Error, TimeoutError) as error:
            self._inward = None
            log.warning("gateway_pod_silent", name=self.name, error=plain(str(error)))
            sentence = "SSH of this machine does not answer; restart it if that lasts"
            if isinstance(error, NoRelay):
                sentence = "the way to this machine is interrupted; try again in a minute"
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, f"gpuyard: {sentence}"
            ) from error

    async def _arrive(self) -> asyncssh.SSHClientConnection:
        began = time.monotonic()
        while True:
            try:
                return await self._connect()
            except (OSError, asyncssh.Error, TimeoutError):
                if not await self._still_comes(time.monotonic() - began):
                    raise

    async def _still_comes(self, waited: float) -> bool:
        """Whether to try once more, after a pause. A machine that came meanwhile is tried again,
        and so is the one that an order was given instead."""
        if self._is_gone or not (isinstance(self._found, Door) and self._found.coming):
            return False
        least, most = COMING_SECONDS
        await asyncio.sleep(min(max(least, waited / 8), most))
        try:
            found = await self._directory.find(self.name)
        except Exception:
            log.exception("gateway_cannot_ask", name=self.name)
            return True
        if reason := self.outlived(found):
            self.leave(reason)
        if not isinstance(found, Door) or self._is_gone or self._why:
            return False
        self._found = found
        return True

    async def _connect(self) -> asyncssh.SSHClientConnection:
        door = self._found
        if not isinstance(door, Door):
            raise asyncssh.ConnectionLost("no machine")
        trusted = [asyncssh.import_public_key(door.host_key)]
        self._route = Route(self._relays, door.cluster)
        made = await asyncssh.connect(
            door.target,
            door.port,
            tunnel=self._route,
            username="gpuyard",
            known_hosts=(trusted, [], []),
            client_keys=[asyncssh.import_private_key(door.client_key)],
            config=None,
            agent_path=None,
            preferred_auth="publickey",
            # Safe without strict key exchange, which the pod's server does not know.
            encryption_algs=["aes128-gcm@openssh.com"],
            compression_algs=["none"],
            connect_timeout=WAIT_SECONDS + CONNECT_SECONDS,
            login_timeout=CONNECT_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
        )
        self._watching = asyncio.create_task(self._until_lost(made))
        return made

    def cut_off(self) -> str:
        """Why the pod's end was lost."""
        if self._route is not None and self._route.lost:
            return "the way to this machine was lost; connect again"
        return "the machine closed the connection"

    async def _until_lost(self, made: asyncssh.SSHClientConnection) -> None:
        """When the pod hangs up, what it said last still reaches the client."""
        await made.wait_closed()
        if self._sessions:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_told.wait(), LAST_WORDS_SECONDS)
        self.leave(self.cut_off())

    def session(self) -> Outer:
        made = Outer(self.inward, self.cut_off, self._heard, self._over)
        self._sessions.add(made)
        self._all_told.clear()
        return made

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    def _over(self, session: Outer) -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._all_told.set()

    async def connection(self, host: str, port: int) -> SSHForwarder:
        self._has_ports = True
        return await self._conn.forward_tunneled_connection(await self.inward(), host, port)

    async def listener(self, host: str, port: int) -> asyncssh.SSHListener:
        """A port in the pod whose connections go to the client."""
        self._has_ports = True

        async def accepted(orig_host: str, orig_port: int) -> SSHForwarder:
            _, peer = await self._conn.create_connection(
                SSHForwarder,  # type: ignore[arg-type]  # as the library itself does
                host,
                port,
                orig_host,
                orig_port,
            )
            return SSHForwarder(peer)  # type: ignore[arg-type]

        inward = await self.inward()
        return await inward.create_server(accepted, host, port)


def _close(connecting: asyncio.Task[asyncssh.SSHClientConnection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
