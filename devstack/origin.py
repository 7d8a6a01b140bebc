"""The one origin in front of the web process and the streams process, as nginx would be.

    python -m devstack.origin --port PORT --web PORT --streams PORT [--also ADDRESS]

/streams/* goes to the streams process, everything else to web. An answer of web with the header
X-Accel-Redirect is not shown: the request goes, with its own headers, to the address in it. A
request to /streams/* may become a websocket. That is all of nginx that the product relies on
(docs/operators.md has the real configuration).

It is small on purpose: loopback only, one request at a time per connection, no limits, no cache.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_HOST = "127.0.0.1"
_PIECE = 64 * 1024
# The longest head that the servers behind it take; a longer one is answered 431 like there.
_LONGEST_HEAD = 64 * 1024
# Of one hop, and never passed on.
_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect"})
_STREAMS = b"/streams/"
_LOOK_S = 0.5


class BadMessageError(Exception):
    """A head that is no HTTP/1.1, or too long."""


@dataclass(frozen=True)
class Head:
    """First line and headers of a message; names in lower case."""

    first: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def get(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a websocket, or grants one."""
        return (self.get(b"upgrade") or b"").lower() == b"websocket"

    def encoded(
        self, *, target: bytes | None = None, close: bool = False, upgrade: bool = False
    ) -> bytes:
        """As it is passed on; ``target`` replaces a request's address."""
        first = self.first
        if target is not None:
            method, _, version = first.split(b" ", 2)
            first = b" ".join((method, target, version))
        kept = [name + b": " + value for name, value in self.headers if name not in _HOP]
        kept += [b"connection: close"] if close else []
        kept += [b"connection: upgrade", b"upgrade: websocket"] if upgrade else []
        return b"\r\n".join((first, *kept, b"", b""))


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, None at the end of the connection. Raises BadMessageError."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadMessageError("cut off") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadMessageError("too long") from error
    first, *lines = raw[:-4].split(b"\r\n")
    if len(first.split(b" ", 2)) < 2:
        raise BadMessageError("no first line")
    pairs = (line.partition(b":") for line in lines)
    return Head(first, tuple((name.lower(), value.strip()) for name, _, value in pairs))


class Origin:
    """Listens on ``port`` once ``start`` has returned."""

    def __init__(self, *, web: int, streams: int) -> None:
        self._web = web
        self._streams = streams

    async def start(self, port: int, hosts: Sequence[str] = (_HOST,)) -> asyncio.Server:
        return await asyncio.start_server(self._serve, hosts, port, limit=_LONGEST_HEAD)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection, one after the other."""
        with contextlib.suppress(OSError):  # either side may leave at any time
            try:
                while (request := await read_head(reader)) is not None:
                    if not await self._pass_on(request, reader, writer):
                        break
            except BadMessageError:
                writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
            finally:
                writer.close()

    async def _pass_on(
        self, request: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request with its answer; whether the connection can take another."""
        target = request.first.split(b" ", 2)[1]
        port = self._streams if target.startswith(_STREAMS) else self._web
        async with _Upstream(port) as up:
            if up.reader is None or up.writer is None:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                return False
            upgrade = request.upgrades and port == self._streams
            up.writer.write(request.encoded(close=not upgrade, upgrade=upgrade))
            if request.get(b"expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await _copy_body(request, reader, up.writer)
            answer = await read_head(up.reader)
            if answer is None:
                raise BadMessageError("no answer")
            if upgrade:
                granted = answer.first.split(b" ")[1] == b"101"
                writer.write(answer.encoded(upgrade=granted, close=not granted))
                if granted:
                    await _join((reader, writer), (up.reader, up.writer))
                else:
                    await _copy_body(answer, up.reader, writer)
                return False
            handed_to = answer.get(b"x-accel-redirect")
            if handed_to is None or port == self._streams:
                return await _answer(request, answer, up.reader, reader, writer)
        lean = tuple(pair for pair in request.headers if pair[0] != b"content-length")
        again = Head(b" ".join((b"GET", handed_to, b"HTTP/1.1")), lean)
        return await self._pass_on(again, reader, writer)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(client: Ends, upstream: Ends) -> None:
    """Bytes both ways until one side has ended; who does not read is waited for."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()

    ways = {
        asyncio.ensure_future(carry(client[0], upstream[1])),
        asyncio.ensure_future(carry(upstream[0], client[1])),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


class _Upstream:
    """A connection to one of our processes, for one request; empty when it does not listen."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> _Upstream:
        with contextlib.suppress(ConnectionRefusedError):
            self.reader, self.writer = await asyncio.open_connection(
                _HOST, self._port, limit=_LONGEST_HEAD
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()


async def _copy_body(
    request: Head, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter
) -> None:
    """A request's body, or an answer's. Chunked ones go on as they are, up to the last chunk."""
    if (request.get(b"transfer-encoding") or b"").lower() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            upstream.write(line)
            size = int(line.split(b";")[0], 16)
            upstream.write(await reader.readexactly(size + 2))
            await upstream.drain()
            if not size:
                return
    left = int(request.get(b"content-length") or 0)
    while left:
        piece = await reader.read(min(left, _PIECE))
        if not piece:
            raise BadMessageError("cut off")
        upstream.write(piece)
        await upstream.drain()
        left -= len(piece)
    await upstream.drain()


async def _answer(
    request: Head,
    answer: Head,
    upstream: asyncio.StreamReader,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Pass an answer on to its end, the end of upstream's connection; True when the client can
    tell where it ended."""
    bounded = answer.get(b"content-length") or answer.get(b"transfer-encoding")
    empty = answer.first.split(b" ")[1] in (b"204", b"304") or request.first.startswith(b"HEAD ")
    lasting = bool(bounded or empty) and (request.get(b"connection") or b"").lower() != b"close"
    writer.write(answer.encoded(close=not lasting))
    while piece := await _next_piece(upstream, reader):
        writer.write(piece)
        await writer.drain()
    return lasting


async def _next_piece(upstream: asyncio.StreamReader, client: asyncio.StreamReader) -> bytes:
    """What upstream sends next, nothing at its end. A client that leaves a quiet stream would only
    be noticed at the next byte, so it is looked after meanwhile."""
    piece = asyncio.ensure_future(upstream.read(_PIECE))
    try:
        while not (await asyncio.wait({piece}, timeout=_LOOK_S))[0]:
            if client.at_eof():
                raise ConnectionResetError("the client has left")
        return piece.result()
    finally:
        piece.cancel()


async def _run(port: int, web: int, streams: int, hosts: Sequence[str]) -> None:
    server = await Origin(web=web, streams=streams).start(port, hosts)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await over.wait()
    server.close()


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="devstack.origin")
    for name in ("port", "web", "streams"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--also", action="append", default=[], help="one more address to listen at")
    given = parser.parse_args(arguments)
    asyncio.run(_run(given.port, given.web, given.streams, [_HOST, *given.also]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
