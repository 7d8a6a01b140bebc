"""The streams process as an ASGI application: logs of running machines, and terminals in them.

    GET /streams/logs?grant=&tail=    server-sent events, resumed by Last-Event-ID
    GET /streams/tail?grant=&tail=&previous=    one JSON document
    GET /streams/changes?grant=       server-sent events without content (changes.py)
    GET /streams/terminal             a websocket (terminal.py)
    GET /streams/healthz

It trusts a grant (kernel.grants) and nothing else: who may look was decided by whoever signed it a
moment ago. It reads one row per look and holds no database connection while it streams. Each
log is a thread that reads from the cluster and a coroutine that writes to the client.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from uuid import UUID

import structlog
from django.conf import settings

from kernel import sse
from kernel.errors import VendorError
from kernel.grants import BadGrant, Grant, verify
from provisioner.contracts import MOST_LOG_LINES, LogText
from provisioner.contracts.streaming import CHANGES, LOGS_FOLLOW, LOGS_TAIL, STREAM_PATHS
from provisioner.instances.loglines import Position, lines_of
from provisioner.kube.connections import connect
from provisioner.kube.errors import code_of
from provisioner.kube.manifests import MAIN
from provisioner.kube.transport import Cut
from provisioner.streams import place as places
from provisioner.streams.changes import Changes, Look, nothing
from provisioner.streams.follow import (
    CANNOT_READ,
    Connect,
    Follower,
    Item,
    Lines,
    Notice,
    Over,
)
from provisioner.streams.http import (
    Problem,
    Receive,
    Request,
    Scope,
    Send,
    answer_json,
    answer_problem,
    begin,
    body,
    while_connected,
)
from provisioner.streams.pipe import Pipe
from provisioner.streams.place import Place
from provisioner.streams.seats import Full, Seats
from provisioner.streams.terminal import Terminals

log = structlog.get_logger(__name__)

# Proxies and browsers give up on connections that are silent for a minute.
HEARTBEAT_SECONDS = 15.0
# After a cut clients come back after this: quick for people, no storm after a restart.
RETRY_MILLISECONDS = 2000
# One document: as much as a page shows and a client holds without thinking.
TAIL_BYTES = 256 * 1024
TAIL_SECONDS = 8.0
DEFAULT_LINES = 200
HEALTH_PATH = "/streams/healthz"
# Open pages that are told of changes. Each is a few kilobytes and no thread, so many more fit than
# streams of logs; a team whose every member keeps some tabs open stays below its share.
MOST_WATCHES = 2000
MOST_WATCHES_OF_ONE = 200

Find = Callable[[UUID, UUID], Place | None]


class Streams:
    """The application. One per process and event loop."""

    def __init__(
        self,
        *,
        connect: Connect = connect,
        find: Find = places.find,
        seats: Seats | None = None,
        changes: Look = nothing,
    ) -> None:
        self._connect = connect
        self._find = find
        self._seats = seats or Seats()
        self._cuts: set[Cut] = set()
        self._changes = Changes(changes)
        self._watches = Seats(MOST_WATCHES, MOST_WATCHES_OF_ONE)
        self._terminals = Terminals(find=find, seats=self._seats)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._terminals(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._route(Request.of(scope), receive, send)
            except Problem as problem:
                await answer_problem(send, problem)

    async def _route(self, request: Request, receive: Receive, send: Send) -> None:
        if request.path == HEALTH_PATH:
            await answer_json(send, {"status": "ok"})
        elif request.path == STREAM_PATHS[LOGS_TAIL]:
            await self._tail(request, send)
        elif request.path == STREAM_PATHS[LOGS_FOLLOW]:
            await self._follow(request, receive, send)
        elif request.path == STREAM_PATHS[CHANGES]:
            await self._watch(request, receive, send)
        else:
            raise Problem("not_found", 404, "There is nothing at this address.")

    # -- at once -----------------------------------------------------------------------------

    async def _tail(self, request: Request, send: Send) -> None:
        grant = _granted(request, LOGS_TAIL)
        lines = request.number("tail", default=DEFAULT_LINES, most=MOST_LOG_LINES)
        previous = request.flag("previous")
        with ExitStack() as held:
            self._take_seat(held, grant)
            place = await self._place(grant)
            found = await asyncio.to_thread(
                self._read_tail, place, grant.subject, lines=lines, previous=previous
            )
        await answer_json(send, found.document())

    def _read_tail(self, place: Place, instance_id: UUID, *, lines: int, previous: bool) -> LogText:
        """In a thread. Raises Problem when the cluster does not answer."""
        nothing = LogText(instance_id, "none", detail=_NOTHING, previous=previous)
        if not place.created:
            return nothing
        try:
            raw, truncated = self._connect(place.cluster).pod_log(
                place.namespace,
                place.pod_name,
                container=MAIN,
                tail_lines=lines,
                limit_bytes=TAIL_BYTES,
                previous=previous,
                since=None,
                seconds=TAIL_SECONDS,
            )
        except VendorError as error:
            code = code_of(error)
            if code in ("invalid", "not_found"):
                return nothing
            raise Problem(
                "cluster_unreachable", 503, f"{CANNOT_READ} Ask again in a moment."
            ) from error
        shown = tuple(stamped.line for stamped in lines_of(raw))
        return LogText(instance_id, "live", shown, truncated=truncated, previous=previous)

    # -- as it grows -------------------------------------------------------------------------

    async def _follow(self, request: Request, receive: Receive, send: Send) -> None:
        grant = _granted(request, LOGS_FOLLOW)
        tail = request.number("tail", default=DEFAULT_LINES, most=MOST_LOG_LINES)
        with ExitStack() as held:
            self._take_seat(held, grant)
            await self._place(grant)
            cut, pipe = Cut(), Pipe[Item]()
            held.callback(pipe.close)
            held.callback(cut.make)
            self._cuts.add(cut)
            held.callback(self._cuts.discard, cut)
            follower = Follower(
                pipe=pipe,
                cut=cut,
                look=lambda: self._find(grant.subject, grant.owner),
                connect=self._connect,
                tail=tail,
                position=Position.read(request.last_event_id),
            )
            threading.Thread(target=_run, args=(follower, pipe), daemon=True).start()
            await begin(send, 200, sse.CONTENT_TYPE)
            await while_connected(receive, _pump(pipe, send))

    async def _watch(self, request: Request, receive: Receive, send: Send) -> None:
        grant = _granted(request, CHANGES)
        with ExitStack() as held:
            self._take_seat(held, grant, self._watches)
            await begin(send, 200, sse.CONTENT_TYPE)
            await while_connected(receive, self._changes.follow(grant.subject, send))

    # -- both --------------------------------------------------------------------------------

    def _take_seat(self, held: ExitStack, grant: Grant, seats: Seats | None = None) -> None:
        try:
            held.enter_context((seats or self._seats).take(grant.owner))
        except Full as error:
            raise Problem("rate_limited", 429, str(error), retry_after=5) from error

    async def _place(self, grant: Grant) -> Place:
        place = await asyncio.to_thread(self._find, grant.subject, grant.owner)
        if place is None:
            raise Problem("not_found", 404, "There is no such machine among yours.")
        return place

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for cut in list(self._cuts):
            cut.make()
        await send({"type": "lifespan.shutdown.complete"})


_NOTHING = "There is no log of this run: its program has not started, or its host forgot it."


def _granted(request: Request, verb: str) -> Grant:
    """Before anything else is looked at, the database least of all."""
    try:
        return verify(
            request.text("grant"), verb=verb, key=settings.GPUYARD_GRANT_KEY, now=time.time()
        )
    except BadGrant as error:
        raise Problem("unauthenticated", 401, str(error)) from error


def _run(follower: Follower, pipe: Pipe[Item]) -> None:
    """A stream's thread: whatever breaks in it ends the stream and is logged."""
    try:
        follower.run()
    except Exception:
        log.exception("stream_broke")
        pipe.put(Over("again"))


async def _pump(pipe: Pipe[Item], send: Send) -> None:
    """From the pipe to the client until it is over, with a sign of life when there is nothing."""
    await body(send, sse.retry(RETRY_MILLISECONDS), more=True)
    while True:
        try:
            # Not wait_for: that of Python 3.11 forgets a cancellation that comes with an item.
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                item = await pipe.get()
        except TimeoutError:
            await body(send, sse.HEARTBEAT, more=True)
            continue
        await body(send, _encoded(item), more=True)
        if isinstance(item, Over):
            await body(send, b"", more=False)
            return


def _encoded(item: Item) -> bytes:
    if isinstance(item, Lines):
        return b"".join(
            sse.event({"at": line.at, "text": line.text}, ident=ident) for ident, line in item.lines
        )
    if isinstance(item, Notice):
        return sse.event({"code": item.code, "text": item.text}, kind="notice")
    # "again" is an ordinary cut: the client comes back by itself and brings its position.
    return sse.event({"code": item.code}, kind="end") if item.code == "ended" else sse.HEARTBEAT
