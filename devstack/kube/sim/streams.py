"""Serving one watch: events as they come, bookmarks, an end in order, and the ordered faults."""

from __future__ import annotations

import asyncio
import contextlib

from devstack.kube.sim import wire
from devstack.kube.sim.apiserver import Watching
from devstack.kube.sim.faults import ApiFaults
from devstack.kube.sim.misdeeds import Cut

# As real servers: about one bookmark a minute, and one this long before the watch ends.
BOOKMARK_S = 60.0
_LAST_BOOKMARK_S = 2.0


async def serve_watch(
    watching: Watching,
    path: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    faults: ApiFaults,
) -> None:
    """Stream until the watch's time is over or the client leaves. Raises Cut for an ordered one."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    watch = watching.watch

    def on_change() -> None:
        loop.call_soon_threadsafe(changed.set)

    watch.on_change = on_change
    leaving = asyncio.create_task(_until_gone(reader, changed))
    ends = loop.time() + watching.seconds
    marks = _Bookmarks(loop.time(), ends, wanted=watching.bookmarks)
    writer.write(wire.answer_head(200, {}, length=None))
    silent = False
    try:
        while not leaving.done() and loop.time() < ends and not watch.ended:
            changed.clear()
            silent = silent or faults.silences(path)
            lines = [line for event in watch.take() for line in _shown(event.line(), path, faults)]
            if marks.due(loop.time()) and (mark := watch.bookmark()) is not None:
                lines.append(mark.line())
            if lines and not silent:
                writer.write(wire.chunk(b"".join(lines)))
                await writer.drain()
            if not watch.ended:
                await _wait(changed, min(ends, marks.at) - loop.time())
        if not silent:
            writer.write(wire.LAST_CHUNK)
            await writer.drain()
    finally:
        watch.close()
        leaving.cancel()
        await asyncio.wait({leaving})  # it reads the connection that the next request comes over
    if silent or leaving.done():
        raise Cut


def _shown(line: bytes, path: str, faults: ApiFaults) -> list[bytes]:
    fault = faults.for_event(path)
    if fault is None:
        return [line]
    if fault.kind == "drop_watch":
        raise Cut
    return [] if fault.kind == "lose_event" else [line, line]


class _Bookmarks:
    """When the next one is due; never for a client that did not ask for them."""

    def __init__(self, now: float, ends: float, *, wanted: bool) -> None:
        self._ends = ends
        self.at = self._next(now) if wanted else float("inf")

    def due(self, now: float) -> bool:
        if now < self.at:
            return False
        self.at = self._next(now)
        return True

    def _next(self, now: float) -> float:
        last = self._ends - _LAST_BOOKMARK_S
        regular = now + BOOKMARK_S
        if regular < last:
            return regular
        return last if now < last else float("inf")


async def _until_gone(reader: asyncio.StreamReader, changed: asyncio.Event) -> None:
    """A client says nothing during a watch: whatever can be read is its end."""
    with contextlib.suppress(OSError):  # gone all the same
        await reader.read(1)
    changed.set()


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return
