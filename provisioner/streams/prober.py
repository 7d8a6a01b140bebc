"""The proof that a way in is open: entered from outside, as a renter would, before anybody is told,
and again where there is doubt.

By the published address, with the published host key, through gateway and relay, up to the greeting
of the SSH server in the machine. A machine that cannot be entered is not shown as if it could.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, Protocol
from uuid import UUID

import asyncssh
import structlog

log = structlog.get_logger(__name__)

# How soon a machine that came up is tried. It is one short question when nothing is due.
PERIOD_SECONDS: Final = 0.25
# How soon one that was open is looked at again, once there is doubt.
DOUBT_SECONDS: Final = 5
# A renter would not wait longer either.
PATIENCE_SECONDS: Final = 10
AT_ONCE: Final = 32


class Unproven(Protocol):
    """Whose way in is to be tried, and what came of it."""

    async def unproven(self, clusters: Collection[str]) -> list[tuple[str, UUID]]: ...
    async def doubted(self, clusters: Collection[str]) -> list[tuple[str, UUID]]: ...
    async def tried(self, instance_id: UUID, error: str) -> None: ...


class Prober:
    """Tries what is due behind this gateway's relays, from `start` to `stop`."""

    def __init__(
        self,
        *,
        address: tuple[str, int],
        published: str,
        key_of: Callable[[UUID], str],
        directory: Unproven,
        clusters: Callable[[], Collection[str]],
        port: int,
    ) -> None:
        """address, published: as renters are told, host key as one line. key_of: the private key
        for an instance. clusters: those that can be reached now. port: of SSH in a machine."""
        self._address = address
        self._published = asyncssh.import_public_key(published)
        self._key_of, self._directory, self._clusters = key_of, directory, clusters
        self._port = port

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def _run(self) -> None:
        trying: dict[UUID, asyncio.Task[None]] = {}
        doubt_at = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            trying = {each: task for each, task in trying.items() if not task.done()}
            clusters = self._clusters()
            if not clusters:
                continue
            try:
                due = await self._directory.unproven(clusters)
                if (at := asyncio.get_running_loop().time()) >= doubt_at:
                    due += await self._directory.doubted(clusters)
                    doubt_at = at + DOUBT_SECONDS
            except Exception:
                log.exception("prober_cannot_ask")
                continue
            for name, instance in due:
                if instance not in trying and len(trying) < AT_ONCE:
                    trying[instance] = asyncio.create_task(self._try(name, instance))

    async def _try(self, name: str, instance: UUID) -> None:
        error = await self.enter(name, instance)
        try:
            await self._directory.tried(instance, error)
        except Exception:
            log.exception("prober_cannot_tell", name=name)
            return
        if error:
            log.info("way_in_closed", name=name, error=error)

    async def enter(self, name: str, instance: UUID) -> str:
        """Go in as far as the machine's own SSH server; why not, or empty."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                async with asyncssh.connect(
                    *self._address,
                    username=name,
                    known_hosts=([self._published], [], []),
                    client_keys=[asyncssh.import_private_key(self._key_of(instance))],
                    config=None,
                    agent_path=None,
                    preferred_auth="publickey",
                    compression_algs=["none"],
                ) as conn:
                    reader, writer = await conn.open_connection("127.0.0.1", self._port)
                    greeting = await reader.readexactly(4)
                    writer.close()
        except (OSError, asyncssh.Error, TimeoutError, asyncio.IncompleteReadError) as error:
            return str(error) or "no answer in time"
        return "" if greeting == b"SSH-" else "something else answers in its place"
