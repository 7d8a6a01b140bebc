"""The portal's terminal: a websocket of a page on one side, a shell in the machine on the other.

    GET /streams/terminal?grant=&columns=&rows=    a websocket (frames.py says what goes over it)

Whoever signed the grant has decided that this person may. A grant is for a minute and a shell for
hours, so the page brings a new one again and again; a page that does not, because its owner's
rights have ended, is sent away when the last one is 90 seconds old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from django.conf import settings

from kernel.grants import BadGrant, Grant, verify
from provisioner.contracts.streaming import STREAM_PATHS, TERMINAL
from provisioner.streams import frames, shell
from provisioner.streams.directory import terminal_name
from provisioner.streams.http import Problem, Receive, Request, Scope, Send
from provisioner.streams.place import Place
from provisioner.streams.seats import Full, Seats
from provisioner.streams.shell import Entrance, NoWayIn, Shell

log = structlog.get_logger(__name__)

# Beyond a grant's end: a page asks every 40 s, and a browser wakes one that nobody looks at once a
# minute. Longer, and who was put out stays longer.
GRACE_SECONDS: Final = 30
# Without a byte either way: somebody has gone home.
IDLE_SECONDS: Final = 8 * 3600
# Proxies give up on connections that are silent for a minute.
HEARTBEAT_SECONDS: Final = 15.0
# For the last sentence to reach its page, which closes when it has read it. Whoever closes first,
# with something unread, may take the sentence from the other.
LAST_WORDS_SECONDS: Final = 5.0

Find = Callable[[UUID, UUID], Place | None]


@dataclass(frozen=True)
class Ending:
    """Why a terminal ends, as a sentence for its page."""

    sentence: str


class Terminals:
    """Serves each websocket of this process."""

    def __init__(
        self,
        *,
        find: Find,
        seats: Seats,
        entrance: Callable[[], Entrance | None] = shell.entrance,
    ) -> None:
        self._find, self._seats, self._entrance = find, seats, entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if not _is_ours(scope):
            await send({"type": "websocket.close"})  # 403: nobody reads a sentence there
            return
        await send({"type": "websocket.accept", "subprotocol": frames.PROTOCOL})
        ending = await self._serve(scope, receive, send)
        if ending is not None:
            with suppress(TimeoutError):  # the server closes what is left open here
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await _last_words(receive, send, ending)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Ending | None:
        """None when the page has left."""
        with ExitStack() as held:
            try:
                request = Request.of(scope)
                grant = _granted(request.text("grant"))
                held.enter_context(self._seats.take(grant.owner))
                size = _size(request)
            except (BadGrant, Full) as error:
                return Ending(str(error))
            except Problem as problem:
                return Ending(problem.detail)
            place = await asyncio.to_thread(self._find, grant.subject, grant.owner)
            way = self._entrance()
            if place is None or grant.user is None:
                return Ending("There is no such machine among yours.")
            if way is None:
                return Ending("This platform has no way into machines.")
            name = terminal_name(place.rental_ref, grant.user)
            try:
                entered = await shell.enter(way, name, way.key_of(grant.subject, grant.user), size)
            except NoWayIn as error:
                log.info("terminal_closed", name=name, error=str(error.__cause__))
                return Ending(str(error))
            held.callback(entered.conn.close)
            return await _Terminal(grant, entered.shell, receive, send).run()


class _Terminal:
    """One that is open, until one of its ends or its time has come."""

    def __init__(self, grant: Grant, inside: Shell, receive: Receive, send: Send) -> None:
        self._grant, self._shell = grant, inside
        self._receive, self._send = receive, send
        self._until = grant.until + GRACE_SECONDS
        self._used = time.monotonic()

    async def run(self) -> Ending | None:
        """None when the page has left."""
        each_way: tuple[Coroutine[Any, Any, Ending | None], ...]
        each_way = (self._outward(), self._inward(), self._watch())
        work = [asyncio.create_task(each) for each in each_way]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in work:
                each.cancel()
            results = await asyncio.gather(*work, return_exceptions=True)
        for end in results:
            if isinstance(end, Ending):
                return end
            if isinstance(end, Exception):
                raise end
        return None

    async def _outward(self) -> Ending:
        """From the machine to the page. What is last comes before the end."""
        while True:
            try:
                # Not wait_for: that of Python 3.11 forgets a cancellation that comes with a byte.
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    piece = await self._shell.read()
            except TimeoutError:
                await self._send({"type": "websocket.send", "text": frames.ALIVE})
                continue
            if not piece:
                return Ending(self._shell.ending)
            self._used = time.monotonic()
            await self._send({"type": "websocket.send", "bytes": piece})

    async def _inward(self) -> Ending | None:
        """From the page to the machine; None when the page has left."""
        while (message := await self._receive())["type"] == "websocket.receive":
            try:
                await self._hear(frames.read(message))
            except (frames.BadFrame, BadGrant) as error:
                return Ending(str(error))
        return None

    async def _hear(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Typed):
            self._used = time.monotonic()
            await self._shell.write(frame.data)
        elif isinstance(frame, frames.Seen):
            self._shell.seen(frame.count)
        elif isinstance(frame, frames.Resize):
            self._shell.resize(frame.columns, frame.rows)
        else:
            renewed = _granted(frame.grant)
            if renewed != self._grant:
                raise BadGrant("This machine was started anew. Connect again.")
            self._until = max(self._until, renewed.until + GRACE_SECONDS)

    async def _watch(self) -> Ending:
        """Its rights and its use, looked at when the first of them may have ended."""
        while True:
            rights = self._until - time.time()
            idle = self._used + IDLE_SECONDS - time.monotonic()
            if rights <= 0:
                return Ending(
                    "It could not be confirmed that you may still be here. Connect again."
                )
            if idle <= 0:
                return Ending("Nothing was typed or written for eight hours. Connect again.")
            await asyncio.sleep(min(rights, idle))


def _is_ours(scope: Scope) -> bool:
    """A page of this portal asks for what this process serves. Other sites can make a browser
    connect to us, and cannot forge its Origin."""
    headers = {
        bytes(name).lower(): bytes(value).decode("latin-1") for name, value in scope["headers"]
    }
    return (
        scope["path"] == STREAM_PATHS[TERMINAL]
        and frames.PROTOCOL in scope.get("subprotocols", ())
        and _origin(headers.get(b"origin", "")) == _origin(settings.GPUYARD_BASE_URL)
    )


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None of what is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def _granted(text: str) -> Grant:
    return verify(text, verb=TERMINAL, key=settings.GPUYARD_GRANT_KEY, now=time.time())


def _size(request: Request) -> tuple[int, int]:
    """The page's, so that the first prompt is already right."""
    columns = request.number("columns", default=80, most=frames.MOST_CELLS)
    rows = request.number("rows", default=24, most=frames.MOST_CELLS)
    return columns or 80, rows or 24


async def _last_words(receive: Receive, send: Send, ending: Ending) -> None:
    await send({"type": "websocket.send", "text": frames.closed(ending.sentence)})
    while (await receive())["type"] == "websocket.receive":
        pass  # it was under way
