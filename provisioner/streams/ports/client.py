"""One connection of a browser or program: requests are read, judged, and passed on to the pod.

h11 speaks with both sides, so nothing of a message's framing is passed on as it came: what a pod
reads was written here. A message whose end could be read in two ways is refused.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncssh
import h11

from provisioner.streams.ports import headers, pages, passes
from provisioner.streams.ports.carry import pipe
from provisioner.streams.ports.doors import PortDoor
from provisioner.streams.ports.judge import Passed, Request
from provisioner.streams.ports.pages import Answer
from provisioner.streams.ports.upstream import CHUNK, HEAD_BYTES, Lost, Upstream
from provisioner.streams.relays import NoRelay

if TYPE_CHECKING:
    from provisioner.streams.ports.server import Ports

# To send a head: people's lines are slow, yet whoever sends a byte a minute only holds a place.
HEAD_SECONDS: Final = 30
# Between requests. Proxies in front keep theirs for a minute and must not find it closed.
IDLE_SECONDS: Final = 75
# In which a body must come on, or an answer be read on, by a little. A laptop that sleeps loses
# its transfer either way; less would end transfers over lines that stall.
STALL_SECONDS: Final = 300
# Read and thrown away after a refusal, so that it is read before the connection breaks off.
_LINGER_SECONDS, _LINGER_BYTES = 2, 1 << 20
# Without a body: asking twice is asking once.
_REPEATABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Gone(Exception):
    """The client is not there any more, or says nothing for too long."""


class Client:
    """From its first byte to its end; counted while it has a stream to a pod."""

    def __init__(self, ports: Ports, reader: Any, writer: Any) -> None:
        self._ports, self._reader, self._writer = ports, reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._up: Upstream | None = None
        self._until: float | None = None  # of a pipe, which nobody judges again
        self._begun = False  # an answer was begun and cannot be taken back
        self._silently = False  # HEAD: an answer has no body

    @property
    def door(self) -> PortDoor | None:
        """What it has a stream to."""
        return self._up.door if self._up else None

    def is_over(self, now: float) -> bool:
        """Whether what let a pipe in has expired."""
        return self._until is not None and now >= self._until

    async def serve(self) -> None:
        """All its requests; never raises for what a client or a pod does."""
        try:
            while await self._one():
                self._http.start_next_cycle()
                self._begun = False
            await self._linger()
        except (Gone, TimeoutError, OSError):
            self._writer.transport.abort()
        finally:
            self._leave_pod()
            self._writer.close()

    def cut(self) -> None:
        """End it now, in the middle of whatever it does."""
        if self._up is not None:
            self._up.close()
        self._writer.transport.abort()

    # --- one request

    async def _one(self) -> bool:
        """Whether another may follow on this connection."""
        try:
            head = await self._head()
            if head is None:
                return False
            await self._request(head)
        except h11.RemoteProtocolError as error:
            refusal = pages.NOT_UNDERSTOOD
            if error.error_status_hint in (431, 501):
                refusal = Answer(error.error_status_hint, refusal.sentence)
            await self._refuse(refusal, json_wanted=False)
            return False
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        return done and not self._up_is_piped

    @property
    def _up_is_piped(self) -> bool:
        return self._http.our_state is h11.SWITCHED_PROTOCOL

    async def _head(self) -> h11.Request | None:
        if not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    self._http.receive_data(await self._reader.read(CHUNK))
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                event = await self._event()
        except TimeoutError:
            await self._refuse(Answer(408, "The request did not come in time."), json_wanted=False)
            return None
        return event if isinstance(event, h11.Request) else None

    async def _request(self, head: h11.Request) -> None:
        request = _understood(head)
        self._silently = head.method == b"HEAD"
        door, verdict = await self._ports.judge(request)
        if isinstance(verdict, Answer) or door is None:
            assert isinstance(verdict, Answer)
            await self._refuse(verdict, json_wanted=request.json_wanted)
            return
        refusal = await self._pass_on(head, request, door, verdict)
        if refusal is not None:
            self._leave_pod()
            if self._begun:
                raise Gone
            await self._refuse(refusal, json_wanted=request.json_wanted)

    async def _pass_on(
        self, head: h11.Request, request: Request, door: PortDoor, passed: Passed
    ) -> Answer | None:
        """Carry it to the pod and the answer back; an answer of ours where that fails."""
        while True:
            refusal = await self._reach_pod(door)
            if refusal is not None:
                return refusal
            assert self._up is not None
            again = self._up.used and head.method in _REPEATABLE and not _has_body(head)
            try:
                await self._up.send(self._inward(head, request))
                await self._exchange(passed)
                return None
            except Lost:
                if self._begun or not again:
                    return pages.broken(door.port)
                self._leave_pod()  # it was closed while it lay idle
            except h11.RemoteProtocolError as error:
                if self._http.their_state is h11.ERROR:
                    raise  # the client's own fault
                self._ports.inside.note("ports_pod_speaks_no_http", door, str(error))
                return pages.broken(door.port)

    async def _reach_pod(self, door: PortDoor) -> Answer | None:
        """A stream to the door, the one before if it still serves."""
        if self._up is not None and self._up.is_ready(door):
            self._up.door = door
            return None
        self._leave_pod()
        if not self._ports.inside.enter(door):
            return pages.full(self._ports.inside.per_rental)
        try:
            self._up = await Upstream.open(self._ports.inside.streams, door)
        except NoRelay:
            refusal = pages.unreachable()
        except asyncssh.ChannelOpenError as error:
            # The relay says why in a sentence that is for our log.
            self._ports.inside.note("ports_pod_silent", door, error.reason)
            refusal = pages.silent(door.port)
        except (OSError, asyncssh.Error) as error:
            self._ports.inside.note("ports_way_lost", door, str(error))
            refusal = pages.unreachable()
        else:
            return None
        finally:
            if self._up is None:
                self._ports.inside.leave(door)
        return refusal

    def _leave_pod(self) -> None:
        if self._up is not None:
            self._up.close()
            self._ports.inside.leave(self._up.door)
            self._up = None

    def _inward(self, head: h11.Request, request: Request) -> h11.Request:
        names = self._ports.names
        passed = headers.to_pod(
            request.headers,
            cookie=passes.name_of(secure=names.secure),
            address=self._ports.address_of(self._writer, request.headers),
            scheme=names.scheme,
            host=request.host.encode("latin-1"),
        )
        return h11.Request(method=head.method, target=head.target, headers=passed)

    # --- both directions of one exchange

    async def _exchange(self, passed: Passed) -> None:
        """The request's body inwards and the answer outwards, at one time: either may end first."""
        inward = asyncio.create_task(self._inwards())
        outward = asyncio.create_task(self._outwards(passed))
        try:
            await asyncio.wait((inward, outward), return_when=asyncio.FIRST_COMPLETED)
            if inward.done() and not outward.done():
                if not isinstance(inward.exception(), Lost):
                    inward.result()  # raises: nothing but an error ends it
                # A pod may answer before it has read all, and close.
                await asyncio.wait((outward,), timeout=STALL_SECONDS)
            if outward.done():
                outward.result()
            else:
                raise Lost
        finally:
            for each in (inward, outward):
                each.cancel()
            await asyncio.gather(inward, outward, return_exceptions=True)
        if self._up_is_piped:
            await self._pipe(passed)

    async def _inwards(self) -> None:
        """The body; then wait for the client to hang up, which nobody else would see."""
        assert self._up is not None
        while True:
            async with asyncio.timeout(STALL_SECONDS):
                event = await self._event()
            if isinstance(event, h11.Data):
                await self._up.send(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await self._up.send(h11.EndOfMessage())
                break
            else:
                raise Gone
        await self._watch()

    async def _watch(self) -> None:
        """Until the client hangs up. What it sends ahead is kept, as far as it is little."""
        while len(self._http.trailing_data[0]) < HEAD_BYTES:
            data = await self._reader.read(CHUNK)
            if not data:
                raise Gone
            self._http.receive_data(data)
        await asyncio.get_running_loop().create_future()

    async def _outwards(self, passed: Passed) -> None:
        assert self._up is not None
        cookie = passes.name_of(secure=self._ports.names.secure)
        while True:
            event = await self._up.event()
            if isinstance(event, h11.InformationalResponse):
                switching = event.status_code == 101
                if self._http.their_http_version == b"1.0":
                    continue  # which knows none
                kept = headers.from_pod(list(event.headers), cookie=cookie, switching=switching)
                await self._send(
                    h11.InformationalResponse(
                        status_code=event.status_code, headers=kept, reason=event.reason
                    )
                )
                if switching:
                    return
            elif isinstance(event, h11.Response):
                kept = headers.from_pod(list(event.headers), cookie=cookie)
                if passed.cookie:
                    kept.append((b"set-cookie", passed.cookie.encode()))
                self._begun = True
                await self._send(
                    h11.Response(status_code=event.status_code, headers=kept, reason=event.reason)
                )
            elif isinstance(event, h11.Data):
                await self._send(h11.Data(data=bytes(event.data)))
            else:  # the end; trailers concern nobody who was not promised them
                await self._send(h11.EndOfMessage())
                return

    async def _pipe(self, passed: Passed) -> None:
        assert self._up is not None
        self._until = passed.until
        early = (self._http.trailing_data[0], self._up.http.trailing_data[0])
        await pipe((self._reader, self._writer), (self._up.reader, self._up.writer), early)

    # --- the client's side

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(CHUNK))
        return event

    async def _send(self, event: Any) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            if self._writer.transport.get_write_buffer_size():
                async with asyncio.timeout(STALL_SECONDS):
                    await self._writer.drain()

    async def _refuse(self, answer: Answer, *, json_wanted: bool) -> None:
        """Say it, and end the connection after it: what is left of the request is not read."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        told, body = answer.rendered(json_wanted=json_wanted)
        told.append((b"connection", b"close"))
        await self._send(h11.Response(status_code=answer.status, headers=told))
        if not self._silently:
            await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def _linger(self) -> None:
        """Read on for a moment: a connection that is closed with unread bytes breaks off, and the
        answer with it."""
        with suppress(OSError):
            self._writer.write_eof()
        left = _LINGER_BYTES
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0 and (data := await self._reader.read(CHUNK)):
                    left -= len(data)


def _has_body(head: h11.Request) -> bool:
    names = {name for name, _ in head.headers}
    return bool(names & {b"content-length", b"transfer-encoding"})


def _understood(head: h11.Request) -> Request:
    """RemoteProtocolError for what could be read in two ways, or is for a proxy of another kind."""
    given = [(bytes(name), bytes(value)) for name, value in head.headers]
    hosts = headers.values(given, b"host")
    framed = {name for name, _ in given} & {b"content-length", b"transfer-encoding"}
    old = head.http_version < b"1.1" and headers.values(given, b"transfer-encoding")
    known = head.http_version in (b"1.0", b"1.1")
    if len(framed) > 1 or old or not known or len(hosts) != 1 or head.target[:1] != b"/":
        raise h11.RemoteProtocolError("ambiguous")
    return Request(
        method=head.method.decode("ascii"),
        target=head.target.decode("latin-1"),
        host=hosts[0].decode("latin-1"),
        headers=given,
    )
