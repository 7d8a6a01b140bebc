"""A small client of the Kubernetes API for devstack's own programs: JSON in, JSON out.

It trusts the server it talks to, because devstack started that server: no byte caps, no address
checks. The product has a client of its own that trusts nobody.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The server answered with an error: HTTP `status`, Kubernetes `reason`, its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """One server and one identity; safe to use from several threads (a connection for each)."""

    def __init__(
        self,
        url: str,
        ca_pem: str,
        *,
        token: str | None = None,
        client_pem: tuple[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """`client_pem` is (certificate, key). `timeout_s` bounds each wait for the server."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or not parts.port:
            raise ValueError(f"an https URL with a port is needed, got {url!r}")
        self.url = url
        self._host, self._port = parts.hostname, parts.port
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.create_default_context(cadata=ca_pem)
        if client_pem:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # created with mode 0600
                file.write("\n".join(client_pem))
                file.flush()
                self._tls.load_cert_chain(file.name)
        self._local = threading.local()

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """From a kubeconfig as `controlplane` writes it: JSON with embedded certificates."""
        config = json.loads(path.read_text())
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]

        def decoded(text: str) -> str:
            return base64.b64decode(text).decode()

        return cls(
            cluster["server"],
            decoded(cluster["certificate-authority-data"]),
            client_pem=(
                decoded(user["client-certificate-data"]),
                decoded(user["client-key-data"]),
            ),
        )

    def get(self, path: str, **query: str) -> Json:
        return self.call("GET", _with_query(path, query))

    def text(self, path: str, **query: str) -> str:
        """The answer as it is, such as a container's log."""
        status, content = self._exchange("GET", _with_query(path, query), None, "application/json")
        if status >= 400:
            _decoded(status, content)
        return content.decode(errors="replace")

    def post(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        return self.call("POST", _with_query(path, query), body)

    def put(self, path: str, body: Mapping[str, Any]) -> Json:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, Any], kind: str, **query: str) -> Json:
        return self.call("PATCH", _with_query(path, query), body, kind)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self.call("DELETE", path, body)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request. Raises ApiError for an error answer, OSError when there is no answer.

        A kept connection that the server has closed meanwhile is replaced once, before any answer
        was read; so a POST may be sent twice and then answers 409, which callers expect anyway.
        """
        return _decoded(*self._exchange(method, path, body, content_type))

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, content_type: str
    ) -> tuple[int, bytes]:
        """One request, see `call`: the answer's status and content."""
        payload = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Accept": "application/json", "Content-Type": content_type}
        kept = getattr(self._local, "connection", None)
        for candidate in [kept, None] if kept else [None]:
            connection = candidate or self._connect(self._timeout_s)
            try:
                connection.request(method, path, payload, headers)
                response = connection.getresponse()
                status, content = response.status, response.read()
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLError):
                connection.close()
                self._local.connection = None
                if candidate:
                    continue
                raise
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                self._local.connection = None
                raise ConnectionError(f"{method} {path}: {error!r}") from error
            self._local.connection = connection
            return status, content
        raise AssertionError("unreachable: the second connection either answers or raises")

    def watch(self, path: str, *, silence_s: float, **query: str) -> Iterator[Json]:
        """Events from a watch until the server ends it. Raises ApiError (410: relist) or OSError.

        `silence_s` without any byte counts as a broken connection; bookmarks and the caller's
        timeoutSeconds keep a healthy one below that.
        """
        connection = self._connect(silence_s)
        try:
            target = _with_query(path, {**query, "watch": "true"})
            connection.request("GET", target, headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                _decoded(response.status, response.read())
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    _raise(event["object"].get("code", 500), event["object"])
                yield event
        except http.client.HTTPException as error:
            raise ConnectionError(f"watch {path}: {error!r}") from error
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout_s, context=self._tls
        )
        connection.connect()
        # Headers and body go out as two small writes; Nagle would hold the second for 40 ms.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _decoded(status: int, content: bytes) -> Json:
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        body = {"message": content[:300].decode(errors="replace")}
    if status >= 400:
        _raise(status, body if isinstance(body, dict) else {"message": str(body)})
    return body if isinstance(body, dict) else {"value": body}


def _raise(status: int, body: Json) -> None:
    raise ApiError(status, body.get("reason", ""), body.get("message", "no message"))
