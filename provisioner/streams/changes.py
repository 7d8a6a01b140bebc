"""Word of change: server-sent events that say "look again", for whatever somebody watches.

A stream carries no content, only the version that a subject has now; who is told asks for the page
by the ordinary way, with its ordinary rights. So one query, for all that is watched, serves every
open page, and a version that is missed is made up for by the next. What a subject is and where its
version stands is not known here: ``look`` is given by whoever puts the process together.

Why no LISTEN/NOTIFY: a transaction that notifies commits under one lock of the whole server, and
rents would then wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog

from kernel import sse
from provisioner.streams.http import Send, body

log = structlog.get_logger(__name__)

# People see a change within this. Half of it asks the database twice as often for nothing.
LOOK_SECONDS = 0.5
# Sign of life, as with logs.
HEARTBEAT_SECONDS = 15.0
# After this the client comes back by itself, and its rights are checked again.
STREAM_SECONDS = 300.0
RETRY_MILLISECONDS = 2000

# Subjects -> the version that each has now; a subject that is gone is left out.
Look = Callable[[Sequence[UUID]], Mapping[UUID, str]]


def nothing(_subjects: Sequence[UUID]) -> dict[UUID, str]:
    """Of a process that was put together without anything to watch."""
    return {}


class Changes:
    """All watches of one process. Used in the event loop's thread alone, so it needs no lock."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._known: dict[UUID, str] = {}
        self._watchers: dict[UUID, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def _watching(self, subject: UUID) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._watchers.setdefault(subject, set()).add(changed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_looking())
        try:
            yield changed
        finally:
            left = self._watchers[subject]
            left.discard(changed)
            if not left:
                del self._watchers[subject]
                self._known.pop(subject, None)

    async def follow(self, subject: UUID, send: Send, *, seconds: float = STREAM_SECONDS) -> None:
        """Write ``version`` events to the client: the present one at once, then each new one."""
        await body(send, sse.retry(RETRY_MILLISECONDS), more=True)
        loop = asyncio.get_running_loop()
        ends, said = loop.time() + seconds, ""
        with self._watching(subject) as changed:
            while (left := ends - loop.time()) > 0:
                changed.clear()
                version = self._known.get(subject, "")
                if version != said:
                    said = version
                    await body(send, sse.event(version, kind="version"), more=True)
                try:
                    async with asyncio.timeout(min(left, HEARTBEAT_SECONDS)):
                        await changed.wait()
                except TimeoutError:
                    await body(send, sse.HEARTBEAT, more=True)
        await body(send, b"", more=False)

    async def _keep_looking(self) -> None:
        """One look for all, as long as anybody watches. A database that is away is asked again."""
        while self._watchers:
            try:
                found = await asyncio.to_thread(self._look, list(self._watchers))
            except Exception:
                log.exception("changes_not_read")
                found = {}
            for subject, version in found.items():
                if self._known.get(subject) != version:
                    self._known[subject] = version
                    for changed in self._watchers.get(subject, ()):
                        changed.set()
            await asyncio.sleep(LOOK_SECONDS)
