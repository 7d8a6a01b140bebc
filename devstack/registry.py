"""A small container registry on loopback: manifests and token sign-in, as real registries do it.

It speaks the part of the distribution API that names images: HEAD and GET of manifests by tag or
digest, the Bearer challenge with a token service of its own, public and private repositories.
There are no layers in it, so nothing can be pulled; it is for whoever asks what a tag means now.
https with a certificate of an authority of its own, which a client trusts through SSL_CERT_FILE.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from devstack.kube.certs import Authority

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SERVICE = "devstack"
_MANIFEST_PATH = re.compile(r"/v2/(?P<name>[a-z0-9._/-]+)/manifests/(?P<tag>[A-Za-z0-9._:-]+)")
_SCOPE = re.compile(r"repository:(?P<name>[a-z0-9._/-]+):pull")


def image(*architectures: str, note: str = "") -> dict[str, Any]:
    """An index of manifests, one per architecture; ``note`` makes it another image."""
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": "sha256:" + hashlib.sha256(f"{architecture}{note}".encode()).hexdigest(),
            "size": 1000,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture in architectures or ("amd64", "arm64")
    ]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


class Registry:
    """A registry at ``host``; stopped by leaving the block.

    users: name -> password. private: repositories that only signed-in users may read. basic: ask
    for the password itself instead of a token.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        users: Mapping[str, str] | None = None,
        private: frozenset[str] = frozenset(),
        basic: bool = False,
    ) -> None:
        self.users = dict(users or {})
        self.private = private
        self.basic = basic
        self.seen: list[str] = []  # "HEAD /v2/…", one per request
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._tokens: dict[str, str] = {}  # token -> repository
        self._lock = threading.Lock()
        authority = Authority(folder, "devstack-registry")
        self.authority_file = authority.pair.cert
        pair = authority.server("registry", ["localhost", "127.0.0.1"])
        self._server = _Server(("127.0.0.1", port), _handler_of(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server.context = context
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def host(self) -> str:
        """What images in it begin with."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def push(self, name: str, tag: str, manifest: Mapping[str, Any] | None = None) -> str:
        """Let ``name:tag`` mean this manifest from now on; its digest."""
        body = json.dumps(manifest or image(note=f"{name}:{tag}")).encode()
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        with self._lock:
            for reference in (tag, digest):
                self._manifests[name, reference] = (digest, body)
        return digest

    def find(self, name: str, reference: str) -> tuple[str, bytes] | None:
        """(digest, manifest) of a tag or digest."""
        with self._lock:
            return self._manifests.get((name, reference))

    def may_read(self, name: str, authorization: str) -> bool:
        """Whether this header lets somebody read this repository."""
        scheme, _, given = authorization.partition(" ")
        if self.basic:
            return name not in self.private or self.knows(authorization)
        with self._lock:
            return scheme == "Bearer" and self._tokens.get(given) == name

    def knows(self, authorization: str) -> bool:
        """Whether this is the Basic header of one of the users."""
        scheme, _, given = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return False
        return scheme == "Basic" and name in self.users and self.users[name] == password

    def token_for(self, scope: str, authorization: str) -> str | None:
        """A token that reads the repository in ``scope``; None for a wrong password.

        As large registries do, a token is given for what the caller may not read as well: it only
        does not help.
        """
        if authorization and not self.knows(authorization):
            return None
        found = _SCOPE.fullmatch(scope)
        token = secrets.token_urlsafe(48)
        if found and (found["name"] not in self.private or self.knows(authorization)):
            with self._lock:
                self._tokens[token] = found["name"]
        return token


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Here and not around the listener: a client that stops in its handshake holds one thread.
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return  # it did not trust us, or went away
        try:
            super().finish_request(wrapped, client_address)
        finally:
            wrapped.close()


def _handler_of(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30.0

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: ``seen`` is the log."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            address = urlsplit(self.path)
            registry.seen.append(f"{self.command} {address.path}")
            authorization = self.headers.get("Authorization", "")
            if address.path == "/token":
                self._token(parse_qs(address.query), authorization)
                return
            found = _MANIFEST_PATH.fullmatch(address.path)
            if found is None:
                self._error(404, "NAME_UNKNOWN")
            elif not registry.may_read(found["name"], authorization):
                self._challenge(found["name"])
            else:
                self._manifest(found["name"], found["tag"])

        def _manifest(self, name: str, tag: str) -> None:
            stored = registry.find(name, tag)
            if stored is None:
                self._error(404, "MANIFEST_UNKNOWN")
                return
            digest, body = stored
            kind = json.loads(body).get("mediaType", MANIFEST)
            if kind not in self.headers.get("Accept", ""):
                self._error(404, "MANIFEST_UNKNOWN")
                return
            self._send(200, body, {"Content-Type": kind, "Docker-Content-Digest": digest})

        def _token(self, query: dict[str, list[str]], authorization: str) -> None:
            token = registry.token_for(query.get("scope", [""])[0], authorization)
            if token is None:
                self._error(401, "UNAUTHORIZED")
                return
            body = json.dumps({"token": token, "expires_in": 300}).encode()
            self._send(200, body, {"Content-Type": "application/json"})

        def _challenge(self, name: str) -> None:
            challenge = f'Basic realm="{_SERVICE}"'
            if not registry.basic:
                realm = f"https://{registry.host}/token"
                scope = f"repository:{name}:pull"
                challenge = f'Bearer realm="{realm}",service="{_SERVICE}",scope="{scope}"'
            self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

        def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
            body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
            self._send(status, body, {"Content-Type": "application/json", **(headers or {})})

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
