"""From one thread to one coroutine, with room for a few items: a slow reader slows the writer.

That is the whole backpressure: a browser that does not read fills its connection, then this pipe,
then the connection to the cluster, and the kubelet stops sending. Nothing piles up here.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, TypeVar

T = TypeVar("T")

# Batches on the way. One would make thread and loop wait for each other at every batch.
ROOM = 4


class Pipe(Generic[T]):
    """Made in the coroutine's loop; ``put`` is for the one thread, the rest for the coroutine."""

    def __init__(self, room: int = ROOM) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T] = asyncio.Queue()
        self._room = threading.Semaphore(room)
        self._closed = threading.Event()

    def put(self, item: T) -> bool:
        """Blocks until there is room; False once nobody reads any more."""
        self._room.acquire()
        if self._closed.is_set():
            self._room.release()
            return False
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        return True

    async def get(self) -> T:
        item = await self._items.get()
        self._room.release()
        return item

    def close(self) -> None:
        """Nobody reads any more: a blocked writer returns, later ones too."""
        self._closed.set()
        self._room.release()
