"""What listeners for ports have in common: a connection that comes gets a task, and is counted."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from provisioner.streams.ports.inside import Guest, Inside

log = structlog.get_logger(__name__)


class Served(Guest, Protocol):
    """A guest that lives as long as its connection."""

    async def serve(self) -> None:
        """All of it; never raises for what a client or a pod does."""


@dataclass
class Tasks:
    """The connections of a listener."""

    inside: Inside
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, guest: Served, writer: asyncio.StreamWriter) -> None:
        """In the connection's own task."""
        task = asyncio.current_task()
        if self.inside.full or task is None:
            writer.transport.abort()
            return
        # Clients that vanish without a word are noticed by their system alone.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.inside.guests.add(guest)
        self._tasks.add(task)
        try:
            await guest.serve()
        except asyncio.CancelledError:
            pass  # by `stop`, which waits for this very end
        except Exception:
            log.exception("ports_client_failed")
            writer.transport.abort()
        finally:
            self.inside.guests.discard(guest)
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Until all have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
