"""The gateway's door for commands: the platform's own programs come in here and are led on to the
agent of a cluster.

CONNECT, as proxies know it, with a grant that is signed for one cluster and good for a minute to
come in. What follows is TLS between whoever asked and the agent; it is carried and cannot be read
here. The door is for the platform's own network: it listens where `manage.py gateway --agents-host`
says, and not for renters.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import asyncssh
import structlog

from kernel.grants import BadGrant, verify
from kernel.ids import BadId, parse
from provisioner.contracts.access import COMMAND_PORT, COMMAND_TARGET, COMMAND_VERB
from provisioner.streams.ports.carry import pipe
from provisioner.streams.relays import NoRelay, Relays, plain

log = structlog.get_logger(__name__)

_HEAD_BYTES: Final = 2048
_HEAD_SECONDS: Final = 5
# For an agent that comes back: its pause between attempts is shorter. Callers give up after eight.
_WAIT_SECONDS: Final = 3
# From all programs to all agents: some eight per cluster and program stay open.
CONNECTIONS: Final = 4000
# When either side has hung up, there is nothing left to say.
_LAST_WORDS_SECONDS: Final = 1


@dataclass(frozen=True)
class Refused(Exception):
    """status and phrase for whoever asked."""

    status: int
    phrase: str


class AgentDoor:
    """Listens from `start` to `stop`."""

    def __init__(self, relays: Relays, grant_key: bytes) -> None:
        self._relays, self._key = relays, grant_key
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses for 0. OSError when it is taken."""
        self._server = await asyncio.start_server(
            self._arrived, host, port, backlog=512, limit=_HEAD_BYTES
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more and end every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncssh.Error, asyncio.CancelledError):
            pass  # either side is gone, or `stop` waits for this very end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            cluster = await self._asked(reader)
            agent = await self._open(cluster)
        except Refused as refused:
            writer.write(f"HTTP/1.1 {refused.status} {refused.phrase}\r\n\r\n".encode())
            await writer.drain()
            return
        try:
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await writer.drain()
            await pipe((reader, writer), agent, last_words=_LAST_WORDS_SECONDS)
        finally:
            agent[1].close()

    async def _asked(self, reader: asyncio.StreamReader) -> str:
        """The cluster that whoever came may reach; Refused."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Refused(400, "Not understood") from error
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        given = [line for line in lines if line.lower().startswith("proxy-authorization: bearer ")]
        if len(words) != 3 or words[0] != "CONNECT" or len(given) != 1:
            raise Refused(400, "Not understood")
        try:
            cluster = parse("cluster", words[1].removesuffix(f":{COMMAND_PORT}"))
            grant = verify(
                given[0].split(" ", 2)[2], verb=COMMAND_VERB, key=self._key, now=time.time()
            )
        except (BadId, BadGrant) as error:
            raise Refused(403, "Not allowed") from error
        if grant.subject != cluster:
            raise Refused(403, "Not allowed")
        return words[1].removesuffix(f":{COMMAND_PORT}")

    async def _open(
        self, cluster: str
    ) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await self._relays.stream(cluster, COMMAND_TARGET, COMMAND_PORT)
        except (TimeoutError, NoRelay) as error:
            raise Refused(503, "No agent is connected") from error
        except asyncssh.ChannelOpenError as error:
            log.info("agent_refused", cluster=cluster, why=plain(error.reason))
            raise Refused(502, "The agent refused") from error
