"""The one origin in front of web and streams: what it hands on, hands over and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from devstack.origin import Origin
from devstack.ports import free_port, release

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(answer: bytes, heard: list[bytes], *, body: int = 0) -> Serve:
    """A server that notes each request and gives one answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head + (await reader.readexactly(body) if body else b""))
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


def ok(text: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s" % (len(text), more, text)


async def ask(port: int, *requests: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
    writer.write_eof()
    got = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return got


def through(web: Serve | None, streams: Serve | None, *requests: bytes) -> bytes:
    """All answers to the requests of one connection."""
    ports = [free_port() for _ in range(3)]

    async def run() -> bytes:
        servers = [
            await asyncio.start_server(serve, "127.0.0.1", port)
            for serve, port in ((web, ports[1]), (streams, ports[2]))
            if serve is not None
        ]
        servers.append(await Origin(web=ports[1], streams=ports[2]).start(ports[0]))
        try:
            return await ask(ports[0], *requests)
        finally:
            for server in servers:
                server.close()

    try:
        return asyncio.run(run())
    finally:
        for port in ports:
            release(port)


def test_each_address_goes_to_its_process() -> None:
    web: list[bytes] = []
    streams: list[bytes] = []
    got = through(
        saying(ok(b"web"), web),
        saying(ok(b"streams"), streams),
        b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /streams/logs?grant=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /streams HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    assert got.count(b"HTTP/1.1 200 OK") == 3, "one connection carries several requests"
    assert [head.split(b"\r\n")[0] for head in web] == [
        b"GET /a?b=c HTTP/1.1",
        b"GET /streams HTTP/1.1",
    ]
    assert [head.split(b"\r\n")[0] for head in streams] == [b"GET /streams/logs?grant=1 HTTP/1.1"]


def test_an_answer_that_hands_over_is_not_shown() -> None:
    web: list[bytes] = []
    streams: list[bytes] = []
    handing = ok(b"ask stream_url", b"X-Accel-Redirect: /streams/logs?grant=g&tail=5\r\n")
    got = through(
        saying(handing, web),
        saying(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n", streams),
        b"GET /api/v1/x?follow=true HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 7\r\n\r\n",
    )
    assert b"stream_url" not in got
    assert got.endswith(b"data: 1\n\n")
    (handed,) = streams
    assert handed.startswith(b"GET /streams/logs?grant=g&tail=5 HTTP/1.1\r\n")
    assert b"last-event-id: 7" in handed, "the caller's own headers go along"


def test_bodies_are_passed_on_whole() -> None:
    web: list[bytes] = []
    body = b"x" * 200_000
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert through(saying(ok(b"got it"), web, body=len(body)), None, request + body).endswith(
        b"got it"
    )
    assert web[0].endswith(body)


def test_chunked_bodies_too() -> None:
    web: list[bytes] = []
    chunks = b"5\r\nhello\r\n0\r\n\r\n"
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    through(saying(ok(b""), web, body=len(chunks)), None, request + chunks)
    assert web[0].endswith(chunks)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /streams/x HTTP/1.1\r\nHost: x\r\n\r\n", b"502"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_what_cannot_be_answered_says_so(request_bytes: bytes, status: bytes) -> None:
    got = through(None, None, request_bytes)
    assert got.startswith(b"HTTP/1.1 " + status)


def test_a_client_that_leaves_a_quiet_stream_ends_it_behind() -> None:
    """Otherwise each closed page would hold a seat until the next line of a quiet log."""
    ports = [free_port() for _ in range(3)]

    async def run() -> None:
        ended = asyncio.Event()

        async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            assert await reader.read(1) == b""
            ended.set()
            writer.close()

        behind = await asyncio.start_server(quiet, "127.0.0.1", ports[2])
        origin = await Origin(web=ports[1], streams=ports[2]).start(ports[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(b"GET /streams/logs HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)
        behind.close()
        origin.close()

    try:
        asyncio.run(run())
    finally:
        for port in ports:
            release(port)
