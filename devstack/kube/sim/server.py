"""One simulated API server on a loopback port: HTTPS around `apiserver`, and ordered faults.

All servers of a process share one event loop in one thread (`HttpLoop`), so that a thousand open
watches cost a thousand sockets and no threads. TLS with the cluster's own authority; a client is a
token, or a certificate of that authority.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from devstack.kube.certs import Pair
from devstack.kube.sim import wire
from devstack.kube.sim.apiserver import Answer, ApiServer, Request, Watching
from devstack.kube.sim.errors import StatusError
from devstack.kube.sim.faults import ApiFaults
from devstack.kube.sim.misdeeds import Cut, Misdeeds
from devstack.kube.sim.podlogs import LogRequest
from devstack.kube.sim.rules.rbac import AUTHENTICATED, User
from devstack.kube.sim.streams import serve_watch
from devstack.kube.sim.wire import WireError

HOST = "127.0.0.1"
_START_WITHIN_S = 10.0


class HttpLoop:
    """A thread with an event loop for any number of servers."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="sim-http", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` there and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(_START_WITHIN_S)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class HttpServer:
    """`start`, then requests on `port` are served until `stop`; may be started again."""

    def __init__(
        self, api: ApiServer, http: HttpLoop, *, port: int, serving: Pair, authority: Path
    ) -> None:
        self.api = api
        self.faults = ApiFaults()
        self.requests = 0
        self._http = http
        self._port = port
        self._tls = _context(serving, authority)
        self._misdeeds = Misdeeds(self.faults)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._watched: dict[asyncio.StreamWriter, str] = {}

    def start(self) -> None:
        """OSError when the port is taken."""
        self._http.run(self._start())

    def stop(self) -> None:
        """Refuse connections and cut those that are open, as a server that was killed."""
        self._http.run(self._stop())

    def faults_changed(self) -> None:
        """Cut open watches that a new order drops."""
        self._http.loop.call_soon_threadsafe(self._drop)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, HOST, self._port, ssl=self._tls, limit=wire.LONGEST_HEAD, backlog=512
        )

    async def _stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        open_now = list(self._connections)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)

    def _drop(self) -> None:
        for writer, path in list(self._watched.items()):
            if self.faults.drops(path):
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (Cut, asyncio.CancelledError):
            writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            writer.close()  # the client went away: its own business
        except WireError as error:
            body = StatusError(error.status, "", str(error)).body()
            await self._send(writer, Answer(error.status, body), {"Connection": "close"})
            writer.close()
        else:
            writer.close()
        finally:
            self._connections.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user = _certified(writer)
        while (found := await wire.read(reader)) is not None:
            head, body = found
            self.requests += 1
            request = Request(head.method, head.target, body, head.content_type, head.token, user)
            await self._serve(request, reader, writer)
            if not head.keeps:
                return

    async def _serve(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = self.faults.for_request(_method(request), request.path)
        if fault is not None and await self._misdeeds.instead(fault, request, writer):
            return
        answer = self.api.handle(request)
        if fault is not None and await self._misdeeds.after(fault, answer, writer):
            return
        if isinstance(answer, Watching):
            self._watched[writer] = request.path
            try:
                await serve_watch(answer, request.path, reader, writer, self.faults)
            finally:
                del self._watched[writer]
            return
        if isinstance(answer, LogRequest):
            await self._send_text(writer, answer.text)
            return
        await self._send(writer, answer, {})

    async def _send(
        self, writer: asyncio.StreamWriter, answer: Answer, headers: dict[str, str]
    ) -> None:
        content = answer.text()
        writer.write(wire.answer_head(answer.status, headers, length=len(content)) + content)
        await writer.drain()

    async def _send_text(self, writer: asyncio.StreamWriter, text: str) -> None:
        content = text.encode()
        head = wire.answer_head(200, {}, length=len(content), content_type="text/plain")
        writer.write(head + content)
        await writer.drain()


def _method(request: Request) -> str:
    """As orders for faults name it."""
    watches = request.method == "GET" and request.query.get("watch") in {"true", "1"}
    return "WATCH" if watches else request.method


def _certified(writer: asyncio.StreamWriter) -> User | None:
    """Who a client certificate says the client is; the authority was checked in the handshake."""
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    fields = [pair for row in certificate["subject"] for pair in row]
    names = [value for key, value in fields if key == "commonName"]
    groups = [value for key, value in fields if key == "organizationName"]
    return User(names[0], (*groups, AUTHENTICATED))


def _context(serving: Pair, authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(serving.cert, serving.key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
