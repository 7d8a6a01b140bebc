"""Bytes both ways between two streams: of a request that has become a pipe, or of a raw port."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import asyncssh

from provisioner.streams.ports.upstream import CHUNK

# For the other side to have its last word once one has ended.
LAST_WORDS_SECONDS: Final = 5


async def pipe(
    client: tuple[Any, Any],
    pod: tuple[Any, Any],
    early: tuple[bytes, bytes] = (b"", b""),
    *,
    last_words: float = LAST_WORDS_SECONDS,
) -> None:
    """Until both directions have ended, or one has and the other took ``last_words`` seconds more.

    client, pod: reader and writer. early: what came already, from the client and from the pod.
    """
    ways = [
        asyncio.create_task(_carry(early[0], client[0], pod[1])),
        asyncio.create_task(_carry(early[1], pod[0], client[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(ways, timeout=last_words)
    finally:
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(data: bytes, reader: Any, writer: Any) -> None:
    # Whichever side is gone, the direction has ended; nobody is left to be told.
    with suppress(OSError, asyncssh.Error):
        while True:
            if data:
                writer.write(data)
                await writer.drain()
            data = await reader.read(CHUNK)
            if not data:
                writer.write_eof()
                return
