"""Sending one request: a deadline, a byte cap, no redirect, no retry, errors of our own.

Built from a way to the server (to an address within its provider's binding, or through its agent),
a CA and a token. A client is safe to use from several threads.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3

from kernel.addresses import Resolver, resolve
from provisioner.clusters.addresses import parse_target
from provisioner.contracts import AddressBinding
from provisioner.kube.errors import Rejected, Unsure, from_status, translated
from provisioner.kube.transport import CONNECT_TIMEOUT, Cut, Deadline, Way, gate_of, pool, within

Json = dict[str, Any]

# One call, from resolving to the last byte. Above it a worker's claim would run out while it
# waits; below it a loaded API server's slow writes look like failures.
CALL_SECONDS = 8.0
# A page of 200 pods or 100 nodes is 2 MB at most; decoding four times that takes 60 MB.
MAX_BYTES = 4 * 1024 * 1024
# 500 pages of 200 pods: ten times the largest cluster that Kubernetes itself supports for us.
MAX_PAGES = 500
_CHUNK = 64 * 1024


class Client:
    """Sends requests to one API server."""

    def __init__(self, *, way: Way, ca_pem: str, token: str) -> None:
        """No network. Raises ssl.SSLError for a CA that cannot be loaded."""
        self._pool = pool(way, ca_pem)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {token}",
            "User-Agent": "gpuyard",
        }

    @classmethod
    def direct(
        cls,
        *,
        api_url: str,
        ca_pem: str,
        token: str,
        binding: AddressBinding,
        resolver: Resolver = resolve,
    ) -> Client:
        """To an address. Raises Refusal or InvalidRequest for a URL that must not be used."""
        way = gate_of(parse_target(api_url, binding), binding, resolver)
        return cls(way=way, ca_pem=ca_pem, token=token)

    def close(self) -> None:
        self._pool.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        seconds: float = CALL_SECONDS,
    ) -> Json:
        """The decoded answer to one request; raises Unavailable, Rejected or Unsure."""
        with translated(), within(seconds) as deadline:
            try:
                answer = self._send(method, path, query, body, deadline)
                return _decoded(_all_bytes(answer, deadline), answer)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.passed:
                    raise Unsure("timeout", f"no complete answer within {seconds:g} s") from error
                raise

    def pages(
        self, path: str, *, query: Mapping[str, str], limit: int, seconds: float
    ) -> Iterator[Json]:
        """A list page by page, the whole within ``seconds``; raises like ``request``."""
        deadline = Deadline(seconds)
        asked = {**query, "limit": str(limit)}
        for _ in range(MAX_PAGES):
            page = self.request(
                "GET", path, query=asked, seconds=min(CALL_SECONDS, deadline.left())
            )
            yield page
            token = mapping(page.get("metadata")).get("continue")
            if not token:
                return
            asked["continue"] = str(token)
        raise Unsure("too_large", f"more than {MAX_PAGES} pages")

    def lines(
        self, path: str, *, query: Mapping[str, str], silence: float, seconds: float
    ) -> Iterator[Json]:
        """Objects of a watch, one per line, until the server ends it or ``seconds`` are over.

        ``silence``: seconds without a byte after which the watch counts as dead.
        """
        with translated(), within(seconds) as deadline:
            answer = self._send("GET", path, query, None, deadline, read=silence)
            try:
                if answer.status != 200:
                    _decoded(_all_bytes(answer, deadline), answer)
                yield from _split(answer)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.passed:
                    return
                raise Unsure("broken", f"the watch broke: {type(error).__name__}") from error
            finally:
                answer.close()

    def chunks(
        self,
        path: str,
        *,
        query: Mapping[str, str],
        silence: float,
        seconds: float,
        cut: Cut | None = None,
    ) -> Generator[bytes, None, None]:
        """The bytes of an answer as they come, until the server ends it, ``seconds`` are over or
        ``cut`` is made. Whoever reads them bounds their number and their rate: nothing is read
        ahead. Raises like ``request``; Unsure after ``silence`` seconds without a byte.
        """
        with translated(), within(seconds) as deadline:
            if cut is not None:
                cut.attach(deadline)
            answer = None
            try:
                answer = self._send("GET", path, query, None, deadline, read=silence)
                if answer.status != 200:
                    _decoded(_all_bytes(answer, deadline), answer)
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise Unsure("not_json", "a compressed answer that nobody asked for")
                while piece := answer.read1(_CHUNK, decode_content=False):
                    yield piece
            except (urllib3.exceptions.HTTPError, OSError):
                if deadline.passed:
                    return
                raise
            finally:
                if answer is not None:
                    answer.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        deadline: Deadline,
        *,
        read: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._headers)
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            # A patch of ours names only what it changes.
            kind = "merge-patch+json" if method == "PATCH" else "json"
            headers["Content-Type"] = f"application/{kind}"
        url = path + ("?" + urlencode(query) if query else "")
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read or deadline.left())
        return self._pool.urlopen(
            method,
            url,
            body=data,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=timeout,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
        )


def mapping(value: object) -> Json:
    """``value`` if it is a JSON object, else an empty one: answers are hostile."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _all_bytes(answer: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
    try:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Unsure("not_json", "a compressed answer that nobody asked for")
        parts, size = [], 0
        while chunk := answer.read(_CHUNK, decode_content=False):
            size += len(chunk)
            if size > MAX_BYTES:
                raise Unsure("too_large", f"an answer of more than {MAX_BYTES} bytes")
            if deadline.left() <= 0.001:
                raise Unsure("timeout", "the answer did not end in time")
            parts.append(chunk)
    except BaseException:
        answer.close()  # what is left of it must not meet the next call on this connection
        raise
    if deadline.passed:
        answer.close()
        raise Unsure("timeout", "the answer was cut off at the deadline")
    answer.release_conn()
    return b"".join(parts)


def _decoded(content: bytes, answer: urllib3.BaseHTTPResponse) -> Json:
    if 200 <= answer.status < 300:
        decoded = json.loads(content)
        if not isinstance(decoded, dict):
            raise Unsure("not_json", "the answer is no JSON object")
        return decoded
    try:
        status = mapping(json.loads(content))
    except (ValueError, RecursionError):
        status = {}
    raise from_status(
        answer.status,
        str(status.get("reason", "")),
        str(status.get("message", "")) or content[:200].decode(errors="replace"),
        answer.headers.get("Retry-After"),
    )


def _split(answer: urllib3.BaseHTTPResponse) -> Iterator[Json]:
    kept = b""
    for chunk in answer.stream(_CHUNK, decode_content=False):
        kept += chunk
        *complete, kept = kept.split(b"\n")
        if len(kept) > MAX_BYTES:
            raise Unsure("too_large", "an event of a watch is too large")
        for line in complete:
            if line.strip():
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise Unsure("not_json", "an event of a watch is no JSON object")
                yield event


def absent(error: Rejected) -> bool:
    """Whether a refusal says that the object is not there."""
    return error.code == "not_found"
