"""The SSH gateway: lets renters in by a name that stays, and leads them on into their pod.

A renter's client speaks SSH with the gateway, the gateway speaks SSH with the pod by a key that
this pod alone trusts, on a way that the relay in the pod's cluster opens (`relays.py`). Relays come
in by the same port, under the name of their cluster. What goes through (shells, commands, sftp,
ports both ways) is carried and never looked at. Who may come in is asked for each connection and
again every two seconds while it is open, so a key that was taken away or a machine that was ended
closes the door within five.

It knows nothing of the database: a `Directory` answers. Names that do not exist and keys that are
not known are refused alike, so nobody learns which machines there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import structlog

from provisioner.streams.doors import Directory
from provisioner.streams.relay import Outer
from provisioner.streams.relays import PREFIX, Relay, Relays
from provisioner.streams.visit import KEEPALIVE_SECONDS, Visit
from provisioner.streams.visits import Book, Visits

log = structlog.get_logger(__name__)

# Longer, and strangers hold places without proving anything; shorter, and people on slow lines,
# with a card to touch, are refused.
LOGIN_SECONDS = 30
# A key that was removed must stop within five seconds: this, and the time of one question.
RECHECK_SECONDS = 2.0
# Connections that have not proven themselves: from one address, for an office behind one, and in
# all, so that whoever stalls cannot fill the process. More are closed at once.
KNOCKING_PER_ADDRESS = 100
KNOCKING = 1000
# Editors open a handful; more than this from one renter's machine is a program gone wild.
CONNECTIONS_PER_NAME = 64


@dataclass
class Gateway:
    """Listens from `start` to `stop`; many connections on one event loop."""

    directory: Directory
    host_keys: list[str]
    relays: Relays = field(default_factory=Relays)
    book: Book | None = None
    connections: set[Visit | Relay] = field(default_factory=set)
    _names: Counter[str] = field(default_factory=Counter)
    _knocking: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.visits = Visits(self.book)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. OSError when it is taken."""
        keys = [asyncssh.import_private_key(each) for each in self.host_keys]
        self._server = await asyncssh.create_server(
            lambda: _Arrival(self),
            host,
            port,
            server_host_keys=keys,
            server_version="gpuyard",
            encoding=None,
            line_editor=False,
            allow_scp=False,  # carried into the pod like everything else
            agent_forwarding=False,
            x11_forwarding=False,
            compression_algs=["none"],
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
        )
        self._rechecking = asyncio.create_task(self._recheck())
        return self._server.get_port()

    async def stop(self, sentence: str = "the gateway restarts; connect again") -> None:
        """Listen no more and send everybody away."""
        self._rechecking.cancel()
        self._server.close()
        for each in list(self.connections):
            each.leave(sentence)
        await self._server.wait_closed()
        await self.visits.close()

    def knock(self, address: str) -> bool:
        """Whether one more from there may try to prove itself; `opened` must follow."""
        if self._knocking[address] >= KNOCKING_PER_ADDRESS or self._knocking.total() >= KNOCKING:
            return False
        self._knocking[address] += 1
        return True

    def opened(self, address: str) -> None:
        """It has proven itself or is gone."""
        self._knocking[address] -= 1
        self._knocking += Counter()  # forget addresses with none

    def admit(self, visit: Visit | Relay) -> bool:
        """Count it, unless its machine has as many as it may. Relays count among themselves."""
        if isinstance(visit, Visit) and self._names[visit.name] >= CONNECTIONS_PER_NAME:
            return False
        self._names[visit.name] += 1
        self.connections.add(visit)
        return True

    def forget(self, visit: Visit | Relay) -> None:
        if visit in self.connections:
            self.connections.remove(visit)
            self._names[visit.name] -= 1
            if not self._names[visit.name]:
                del self._names[visit.name]

    async def _recheck(self) -> None:
        """Ask again for everybody inside. While the directory cannot answer, they stay."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            for name in {each.name for each in self.connections}:
                ask = self.directory.relay if name.startswith(PREFIX) else self.directory.find
                try:
                    found: Any = await ask(name)
                except Exception:
                    log.exception("gateway_recheck_failed", name=name)
                    continue
                for each in [one for one in self.connections if one.name == name]:
                    if reason := each.outlived(found):
                        each.leave(reason)


class _Arrival(asyncssh.SSHServer):
    """A connection from outside; whoever says a name becomes a renter's visit or a relay."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._guest: Visit | Relay | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        self._address = str(conn.get_extra_info("peername")[0])
        self._knocks = self._gateway.knock(self._address)
        if not self._knocks:
            conn.abort()

    def _through(self) -> None:
        if self._knocks:
            self._knocks = False
            self._gateway.opened(self._address)

    async def begin_auth(self, username: str) -> bool:
        gateway = self._gateway
        if username.startswith(PREFIX):
            self._guest = Relay(gateway.directory, gateway.relays, self._conn, username)
        else:
            self._guest = Visit(
                gateway.directory, gateway.relays, gateway.visits, self._conn, username
            )
        return await self._guest.begin_auth(username)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        guest = self._guest
        return guest is not None and guest.name == username and guest.proves(key)

    def auth_completed(self) -> None:
        self._through()
        if self._guest is None or not self._guest.proven:  # the library has promised otherwise
            self._conn.abort()
        elif self._gateway.admit(self._guest):
            self._guest.enter()
        else:
            self._guest.leave(
                f"{CONNECTIONS_PER_NAME} connections are open to this machine, the most"
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._through()
        if self._guest is not None:
            self._guest.left(exc)
            self._gateway.forget(self._guest)

    # What may be asked: a relay grants nothing.

    def session_requested(self) -> Outer | bool:
        return isinstance(self._guest, Visit) and self._guest.session()

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Any:
        return isinstance(self._guest, Visit) and self._guest.connection(dest_host, dest_port)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        return isinstance(self._guest, Visit) and self._guest.listener(listen_host, listen_port)
