"""Sending one request: a deadline, a byte cap, no redirect, errors of our own. No retry, but of a
read that met a connection which the server had closed since the call before.

Built from a way to the server (to an address within its provider's binding, or through its agent),
a CA and a token. A client is safe to use from several threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlencode

import urllib3

from kernel.addresses import Resolver, resolve
from provisioner.clusters.addresses import parse_target
from provisioner.contracts import AddressBinding
from provisioner.kube.errors import Rejected, Unavailable, Unsure, from_status, translated
from provisioner.kube.slim import EACH, Allowance, weight
from provisioner.kube.transport import CONNECT_TIMEOUT, Cut, Deadline, Way, gate_of, pool, within

Json = dict[str, Any]

# One call, from resolving to the last byte. Above it a worker's claim would run out while it
# waits; below it a loaded API server's slow writes look like failures.
CALL_SECONDS = 8.0
# A page of 100 pods or 50 nodes is 1 MB at most. All threads of a worker may be reading one at the
# same time, so twice that is what a worker can afford (16 times).
MAX_BYTES = 2 * 1024 * 1024
# A single object: the store of a cluster takes none above 1.5 MB, and of ours none is near this.
MAX_OBJECT = 512 * 1024
# Commas and brackets of an answer, which are what its objects cost in memory: two megabytes of
# empty ones become a hundred. A full page of nodes with all their managed fields has half of this.
MAX_VALUES = 100_000
# 500 pages of 100 pods: five times the largest cluster that Kubernetes itself supports.
MAX_PAGES = 500
# Of all pages of a list together, as `slim.weight` counts: four thousand nodes with fifty labels.
# The lists that a process reads at the same time share it, but for the beginning of each: a large
# one waits for its next turn while others fill it, and small ones never meet it.
MAX_KEPT = 40 * 1024 * 1024
FREE_KEPT = 2 * 1024 * 1024
_KEPT = Allowance(MAX_KEPT)
_CHUNK = 64 * 1024
# Smaller answers are decoded by all threads at once, larger ones one after the other: decoding
# holds the interpreter anyway, and what lies between bytes and what is kept is there once then.
_LARGE = 64 * 1024
_DECODING = threading.Lock()

# What is kept of one item of a list.
Keep = Callable[[Json], Json]


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
                return _decoded(_all_bytes(answer, deadline, MAX_OBJECT), answer)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.passed:
                    raise Unsure("timeout", f"no complete answer within {seconds:g} s") from error
                raise

    def pages(
        self,
        path: str,
        *,
        query: Mapping[str, str],
        limit: int,
        seconds: float,
        keep: Keep | None = None,
    ) -> Iterator[Json]:
        """A list page by page, the whole within ``seconds``; raises like ``request``.

        keep: what is kept of each item. Whoever keeps items of all pages may: the whole list is
        bounded, and a page that is longer than was asked for is no answer.
        """
        deadline, kept = Deadline(seconds), 0
        asked = {**query, "limit": str(limit)}
        with _KEPT.share() as share:
            for _ in range(MAX_PAGES):
                page, most = self._page(
                    path, asked, min(CALL_SECONDS, deadline.left()), limit, keep
                )
                kept += most if kept + most <= FREE_KEPT else weight(page)
                if kept > MAX_KEPT:
                    raise Unsure("too_large", f"a list of more than {MAX_KEPT} bytes in memory")
                if not share.has(max(0, kept - FREE_KEPT)):
                    raise Unavailable("busy", "other lists fill this process: later")
                yield page
                token = mapping(page.get("metadata")).get("continue")
                if not token:
                    return
                asked["continue"] = str(token)
        raise Unsure("too_large", f"more than {MAX_PAGES} pages")

    def _page(
        self, path: str, asked: Mapping[str, str], seconds: float, limit: int, keep: Keep | None
    ) -> tuple[Json, int]:
        """(what is kept of a page, more than it can weigh)."""

        def shorten(page: Json) -> Json:
            items = sequence(page.get("items"))
            if len(items) > limit:
                raise Unsure("too_large", f"a page of {len(items)} items instead of {limit}")
            kept = items if keep is None else [keep(mapping(item)) for item in items]
            return {"metadata": mapping(page.get("metadata")), "items": kept}

        with translated(), within(seconds) as deadline:
            try:
                answer = self._send("GET", path, asked, None, deadline)
                content = _all_bytes(answer, deadline, MAX_BYTES)
                most = len(content) + _values(content) * EACH
                return _decoded(content, answer, shorten), most
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.passed:
                    raise Unsure("timeout", f"no complete answer within {seconds:g} s") from error
                raise

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
                    _decoded(_all_bytes(answer, deadline, MAX_OBJECT), answer)
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
                    _decoded(_all_bytes(answer, deadline, MAX_OBJECT), answer)
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
        while True:
            try:
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
            except (urllib3.exceptions.ProtocolError, urllib3.exceptions.SSLError):
                # Servers, balancers and relays close idle connections when they like, which says
                # nothing about their health. Each turn uses up a kept one, so there are few; of
                # anything but a read it cannot be known whether it was carried out.
                if method != "GET" or not deadline.kept or deadline.passed:
                    raise


def mapping(value: object) -> Json:
    """``value`` if it is a JSON object, else an empty one: answers are hostile."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _all_bytes(answer: urllib3.BaseHTTPResponse, deadline: Deadline, most: int) -> bytearray:
    try:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Unsure("not_json", "a compressed answer that nobody asked for")
        content = bytearray()
        while chunk := answer.read(_CHUNK, decode_content=False):
            content += chunk
            if len(content) > most:
                raise Unsure("too_large", f"an answer of more than {most} bytes")
            if deadline.left() <= 0.001:
                raise Unsure("timeout", "the answer did not end in time")
    except BaseException:
        answer.close()  # what is left of it must not meet the next call on this connection
        raise
    if deadline.passed:
        answer.close()
        raise Unsure("timeout", "the answer was cut off at the deadline")
    answer.release_conn()
    return content


def _decoded(
    content: bytearray, answer: urllib3.BaseHTTPResponse, shorten: Keep | None = None
) -> Json:
    if 200 <= answer.status < 300:
        with _DECODING if len(content) > _LARGE else nullcontext():
            decoded = _json(content)
            return decoded if shorten is None else shorten(decoded)
    try:
        status = _json(content[:_LARGE])
    except Unsure:
        status = {}
    raise from_status(
        answer.status,
        str(status.get("reason", "")),
        str(status.get("message", "")) or content[:200].decode(errors="replace"),
        answer.headers.get("Retry-After"),
    )


def _values(content: bytes | bytearray) -> int:
    """Commas and brackets: about as many as a text of JSON has values, never fewer by two."""
    return sum(map(content.count, (b",", b"[", b"{")))


def _json(content: bytes | bytearray) -> Json:
    """An object of a bounded number of values; Unsure for everything else."""
    if _values(content) > MAX_VALUES:
        raise Unsure("too_large", f"an answer of more than {MAX_VALUES} values")
    try:
        decoded = json.loads(content)
    except (ValueError, RecursionError) as error:  # a number of many digits is a plain ValueError
        raise Unsure("not_json", f"undecodable answer: {type(error).__name__}") from error
    if not isinstance(decoded, dict):
        raise Unsure("not_json", "the answer is no JSON object")
    return decoded


def _split(answer: urllib3.BaseHTTPResponse) -> Iterator[Json]:
    kept = bytearray()
    for chunk in answer.stream(_CHUNK, decode_content=False):
        kept += chunk
        *complete, rest = kept.split(b"\n")
        kept = bytearray(rest)
        if len(kept) > MAX_OBJECT:
            raise Unsure("too_large", "an event of a watch is too large")
        for line in complete:
            if line.strip():
                yield _json(line)


def absent(error: Rejected) -> bool:
    """Whether a refusal says that the object is not there."""
    return error.code == "not_found"
