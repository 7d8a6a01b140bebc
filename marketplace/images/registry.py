"""The HTTP API of container registries, as far as a digest needs it: one HEAD, maybe one token.

The registry is whatever host somebody wrote before a slash, so it is treated as hostile: https
only, on few ports, at public addresses that are checked and then connected to; no redirect is
followed; one deadline for everything; few bytes read, none of them decompressed. The password
goes to the registry it is for, or to the token service that this registry names, and nowhere else.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

from kernel.addresses import (
    ForbiddenAddress,
    Network,
    Reach,
    Resolver,
    is_within,
    reach_of,
    resolve,
    unwrapped,
)
from kernel.text import clean
from kernel.transport import CONNECT_TIMEOUT, Deadline, Gate, pool, within
from marketplace.images.reference import Reference

# 443 and what registries listen on by custom. Any port would make us a scanner of strangers' hosts.
PORTS: Final = frozenset({443, 5000, 5050, 8443})
# Tokens of the large registries are 2 to 6 KiB.
_MAX_BYTES: Final = 64 * 1024
_MAX_TOKEN: Final = 32 * 1024
# Lists of manifests first: a list names an image for every architecture, and the node that pulls
# it takes its own.
_MANIFESTS: Final = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER: Final = re.compile(r'([A-Za-z]{1,20})=(?:"([^"]*)"|([^\s",]+))')
_Server = tuple[str, int]  # host and port
_AGENT: Final = "gpuyard-images"
# Names that strangers choose are resolved by threads of their own: a name server that hangs holds
# up no cluster.
_RESOLVERS: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="registry-dns")


class Failure(Enum):
    """Why there is no digest; the value is the reason that the API names."""

    NOT_FOUND = "image_not_found"
    AUTH = "image_auth"
    UNREACHABLE = "registry_unreachable"
    BAD_ANSWER = "registry_answer"
    BUSY = "registry_busy"


class Unanswered(Exception):
    """The registry gave no digest; the message says what it did instead, in a few words."""

    def __init__(self, failure: Failure, what: str) -> None:
        super().__init__(what)
        self.failure = failure


class Registry:
    """One question to the registry of one image."""

    def __init__(
        self,
        reference: Reference,
        *,
        user: tuple[str, str] | None = None,
        networks: Sequence[Network] = (),
        resolver: Resolver = resolve,
    ) -> None:
        """user: name and password. networks: allowed although they are not public."""
        self._reference = reference
        self._basic = _basic(user) if user else None
        self._networks = tuple(networks)
        self._resolver = resolver
        host, _, port = reference.api_host.partition(":")
        self._server: _Server = (host, int(port or 443))

    def digest(self, *, seconds: float) -> str:
        """The digest that the tag names; raises Unanswered, ForbiddenAddress."""
        with within(seconds) as deadline:
            try:
                return self._digest(deadline)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                why = _reason(error, deadline, seconds)
                raise Unanswered(Failure.UNREACHABLE, why) from error

    def _digest(self, deadline: Deadline) -> str:
        path = f"/v2/{self._reference.repository}/manifests/{self._reference.tag}"
        headers = {"Accept": _MANIFESTS}
        answer = self._ask(self._server, "HEAD", path, headers, deadline)
        if answer.status == 401:
            headers["Authorization"] = self._authorization(
                answer.headers.get("WWW-Authenticate", ""), deadline
            )
            answer = self._ask(self._server, "HEAD", path, headers, deadline)
        if answer.status != 200:
            raise _failed(answer)
        found: str = answer.headers.get("Docker-Content-Digest", "")
        if not _DIGEST.fullmatch(found):
            raise Unanswered(Failure.BAD_ANSWER, "a manifest without a digest")
        return found

    def _authorization(self, challenge: str, deadline: Deadline) -> str:
        """The header that answers a challenge; raises Unanswered."""
        scheme, given = _challenge(challenge)
        if scheme == "basic":
            if self._basic is None:
                raise Unanswered(Failure.AUTH, "401")
            return self._basic
        if scheme != "bearer" or "realm" not in given:
            raise Unanswered(Failure.BAD_ANSWER, "401 without a way to sign in")
        return f"Bearer {self._token(given, deadline)}"

    def _token(self, given: dict[str, str], deadline: Deadline) -> str:
        server, path, query = _realm(given["realm"])
        # The scope is ours to say: the registry's word could ask for more than to pull this.
        asked = {"scope": f"repository:{self._reference.repository}:pull"}
        if given.get("service"):
            asked["service"] = given["service"]
        target = f"{path}?{urlencode([*query, *asked.items()])}"
        headers = {"Accept": "application/json"}
        if self._basic is not None:
            headers["Authorization"] = self._basic
        answer = self._ask(server, "GET", target, headers, deadline)
        if answer.status != 200:
            raise _failed(answer)
        token = _token_in(answer.data)
        if token is None:
            raise Unanswered(Failure.BAD_ANSWER, "a token service that gives no token")
        return token

    def _ask(
        self,
        server: _Server,
        method: str,
        target: str,
        headers: dict[str, str],
        deadline: Deadline,
    ) -> _Answer:
        gate = Gate(*server, partial(self._check, server), self._resolver, threads=_RESOLVERS)
        connections = pool(gate, _context())
        try:
            answer = connections.urlopen(
                method,
                target,
                headers={"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers},
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=deadline.left()),
                preload_content=False,
                decode_content=False,
                assert_same_host=False,
            )
            return _Answer(answer.status, answer.headers, _few_bytes(answer, deadline))
        finally:
            connections.close()

    def _check(self, server: _Server, address: str) -> None:
        """Raise ForbiddenAddress unless this address of this server may be connected to."""
        host, port = server
        ip = unwrapped(address)
        reach = reach_of(ip)
        # A public registry must not lead us into a network that is open for another's sake.
        own = server == self._server
        if reach is Reach.PRIVATE and own and is_within(ip, self._networks):
            return
        if reach is not Reach.PUBLIC:
            raise ForbiddenAddress(f"{host} is not at a public address.")
        if port not in PORTS:
            allowed = ", ".join(map(str, sorted(PORTS)))
            raise ForbiddenAddress(f"Port {port} is not used for registries; {allowed} are.")


class _Answer:
    """Status, headers and the little that was read of the body."""

    def __init__(self, status: int, headers: Any, data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


def _few_bytes(answer: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    """The body if it is small; the connection is closed after it either way."""
    parts, size = [], 0
    while chunk := answer.read(8192, decode_content=False):
        size += len(chunk)
        if size > _MAX_BYTES:
            raise Unanswered(Failure.BAD_ANSWER, f"more than {_MAX_BYTES // 1024} KiB")
        parts.append(chunk)
    if deadline.passed:
        raise urllib3.exceptions.ReadTimeoutError(None, "", "cut off")  # type: ignore[arg-type]
    return b"".join(parts)


def _context() -> ssl.SSLContext:
    """The system's authorities, and those of SSL_CERT_FILE, as everywhere in the process."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _challenge(text: str) -> tuple[str, dict[str, str]]:
    """Scheme and parameters of a WWW-Authenticate header: ``Bearer realm="…",service="…"``."""
    scheme, _, rest = text[:4096].partition(" ")
    given: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(rest):
        given.setdefault(name.lower(), quoted or plain)
    return scheme.lower(), given


def _realm(text: str) -> tuple[_Server, str, list[tuple[str, str]]]:
    """Server, path and query of a token service; raises Unanswered for anything but https."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError as error:
        raise Unanswered(Failure.BAD_ANSWER, "a token service that is no address") from error
    plain = text.isascii() and text.isprintable() and " " not in text and "\\" not in text
    if parts.scheme != "https" or not host or "@" in parts.netloc or not plain:
        raise Unanswered(Failure.BAD_ANSWER, "a token service that is not at https://host/path")
    return (host, port), parts.path or "/", parse_qsl(parts.query)


def _token_in(data: bytes) -> str | None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    given = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(given, str) or len(given) > _MAX_TOKEN:
        return None
    # It becomes a header: a line feed in it would begin another one.
    return given if given.isascii() and given.isprintable() else None


def _failed(answer: _Answer) -> Unanswered:
    status = answer.status
    if status == 404:
        return Unanswered(Failure.NOT_FOUND, "404")
    if status in (401, 403):
        return Unanswered(Failure.AUTH, str(status))
    if status == 429:
        return Unanswered(Failure.BUSY, "429, too many requests")
    if 300 <= status < 400:
        return Unanswered(Failure.BAD_ANSWER, f"{status}, a redirect, which is not followed")
    if 500 <= status < 600:
        return Unanswered(Failure.UNREACHABLE, f"status {status}")
    return Unanswered(Failure.BAD_ANSWER, f"status {status}")


def _reason(error: Exception, deadline: Deadline, seconds: float) -> str:
    if deadline.passed:
        return f"no complete answer within {seconds:g} s"
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name has no address"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "no valid certificate"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "no connection in time"
    return clean(type(error).__name__, limit=60)


def _basic(user: tuple[str, str]) -> str:
    plain = f"{user[0]}:{user[1]}".encode()
    return f"Basic {base64.b64encode(plain).decode()}"
