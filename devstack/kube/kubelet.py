"""The one endpoint of a kubelet that API servers ask for here: container logs, over TLS.

    GET /containerLogs/{namespace}/{pod}/{container}?follow=&previous=&tailLines=&sinceTime=
        &sinceSeconds=&limitBytes=&timestamps=

One port serves all nodes of a simulator; each node's object names it. Only clients with a
certificate of the cluster's authority are let in, as by real kubelets.
"""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from devstack.kube.nodesim import Simulator
    from devstack.kube.podlogs import ContainerLog

_NANO = 1_000_000_000


class NoLogError(Exception):
    """Answered 400 with this text, as kubelets do."""


def serve_kubelet(simulator: Simulator, port: int, *, cert: Path, key: Path, ca: Path) -> None:
    """Listen in a daemon thread. OSError when the port is taken."""

    class Handler(_Handler):
        sim = simulator

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = _Server(("127.0.0.1", port), Handler)
    server.context = context
    threading.Thread(target=server.serve_forever, name="kubelet", daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS in the connection's own thread: one slow handshake must not stop the others."""
        request.settimeout(10)
        with self.context.wrap_socket(request, server_side=True) as secured:
            secured.settimeout(None)
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave in the middle are ordinary."""


class _Handler(BaseHTTPRequestHandler):
    sim: Simulator
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        if len(words) != 4 or words[0] != "containerLogs":
            self._text(404, f"no such path: {parts.path}")
            return
        query = dict(parse_qsl(parts.query))
        try:
            log = self._log(words[1], words[2], words[3], previous=query.get("previous") == "true")
            pieces = self._pieces(log, query)
        except NoLogError as error:
            self._text(400, str(error))
        except ValueError as error:
            self._text(400, f"bad query: {error}")
        else:
            self._stream(pieces, follow=query.get("follow") == "true")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def _log(self, namespace: str, name: str, container: str, *, previous: bool) -> ContainerLog:
        for node in self.sim.nodes.values():
            for pod in node.pods():
                if (pod.metadata["namespace"], pod.metadata["name"]) == (namespace, name):
                    log = pod.logs.of(container, previous=previous)
                    if log is not None:
                        return log
                    kind = "previous terminated container" if previous else "container"
                    raise NoLogError(f'{kind} "{container}" in pod "{name}" is waiting to start')
        raise NoLogError(f'pod "{name}" not found')

    def _pieces(self, log: ContainerLog, query: dict[str, str]) -> Iterator[bytes]:
        since = 0
        if "sinceTime" in query:
            moment = datetime.datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00"))
            since = int(moment.timestamp()) * _NANO
        elif "sinceSeconds" in query:
            since = time.time_ns() - int(query["sinceSeconds"]) * _NANO
        pieces = log.read(
            follow=query.get("follow") == "true",
            tail=int(query["tailLines"]) if "tailLines" in query else None,
            since_ns=since,
            timestamps=query.get("timestamps") == "true",
        )
        return _limited(pieces, int(query["limitBytes"])) if "limitBytes" in query else pieces

    def _stream(self, pieces: Iterator[bytes], *, follow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for piece in pieces:
            if piece:
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            elif follow and self._client_left():
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def _client_left(self) -> bool:
        """Whether the connection was closed by the other side; API servers send nothing more."""
        self.connection.settimeout(0)
        try:
            return not self.connection.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def _text(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _limited(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:limit]
        limit -= len(piece)
        if limit <= 0:
            return
