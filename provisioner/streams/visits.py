"""Who came in, when, and how much went through: written down beside the connections, which never
wait for the book."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from uuid import UUID

import structlog

log = structlog.get_logger(__name__)

Leave = Callable[[int, int, str], None]


class Book(Protocol):
    """Where visits are kept."""

    async def came(self, *, name: str, instance: str, who: str, address: str) -> UUID | None:
        """Somebody is inside; None where that is not written down."""

    async def went(self, visit: UUID, *, bytes_in: int, bytes_out: int, why: str) -> None:
        """They have left."""


class Visits:
    """Writes into a book in the background, each visit's end after its beginning."""

    def __init__(self, book: Book | None) -> None:
        self._book = book
        self._writing: set[asyncio.Task[Any]] = set()

    def enter(self, *, name: str, instance: str, who: str, address: str) -> Leave:
        """Somebody is inside. Call what is returned when they leave: bytes in, bytes out, why."""
        book = self._book
        if book is None:
            return lambda bytes_in, bytes_out, why: None
        came = book.came(name=name, instance=instance, who=who, address=address)
        coming = self._write(_told(came, name))

        def leave(bytes_in: int, bytes_out: int, why: str) -> None:
            async def leaving() -> None:
                visit = await coming
                if visit is not None:
                    went = book.went(visit, bytes_in=bytes_in, bytes_out=bytes_out, why=why)
                    await _told(went, name)

            self._write(leaving())

        return leave

    async def close(self) -> None:
        """Everything is written."""
        while self._writing:
            await asyncio.wait(self._writing)

    def _write(self, what: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(what)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task


async def _told(what: Coroutine[Any, Any, Any], name: str) -> Any:
    """A book that cannot be written lets people in all the same, and says so in the log."""
    try:
        return await what
    except Exception:
        log.exception("gateway_visit_not_written", name=name)
        return None
