"""What is passed on of a request's and an answer's headers, and what is not. PURE.

Names are lower-case bytes, as h11 gives them. What concerns one connection stays on it. A machine's
answers speak to a browser that knows other machines' names too, and to a proxy in front of us that
obeys some headers of its upstream; what would reach those is taken out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Headers = list[tuple[bytes, bytes]]

_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
    }
)
# Whoever lists these in Connection would have the message mean something else behind us.
_NEVER_DROPPED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"cookie"})
# Said anew for each request: a stranger's word about who asks is worth nothing.
_SAID_BY_US: Final = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    }
)
# nginx and others obey X-Accel-* and X-Sendfile of an upstream. Clear-Site-Data reaches cookies of
# every name below the registered domain.
_NOT_FROM_PODS: Final = frozenset({b"clear-site-data", b"x-sendfile"})
_NOT_FROM_PODS_PREFIX: Final = b"x-accel-"
# What becomes a pipe: this and no other protocol. With h2c a pod would be spoken to in a protocol
# whose requests nobody here sees.
WEBSOCKET: Final = b"websocket"


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


def words(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    """Of a header that is a list of words, in small letters."""
    listed = b",".join(values(headers, name)).split(b",")
    return {word.strip().lower() for word in listed} - {b""}


def wants_websocket(headers: Headers) -> bool:
    return b"upgrade" in words(headers, b"connection") and words(headers, b"upgrade") == {WEBSOCKET}


def to_pod(headers: Headers, *, cookie: str, address: str, scheme: str, host: bytes) -> Headers:
    """A request's headers as the pod gets them. cookie: the name of ours, which stays here."""
    passed = [
        (name, value)
        for name, value in _end_to_end(headers)
        if name not in _SAID_BY_US and name != b"cookie"
    ]
    if kept := _other_cookies(headers, cookie):
        passed.append((b"cookie", kept))
    if wants_websocket(headers):
        passed += [(b"connection", b"Upgrade"), (b"upgrade", WEBSOCKET)]
    return [
        *passed,
        (b"x-forwarded-for", address.encode()),
        (b"x-forwarded-proto", scheme.encode()),
        (b"x-forwarded-host", host),
    ]


def from_pod(headers: Headers, *, cookie: str, switching: bool = False) -> Headers:
    """An answer's headers as the browser gets them, without its framing."""
    passed: Headers = []
    for name, value in _end_to_end(headers):
        if name in _NOT_FROM_PODS or name.startswith(_NOT_FROM_PODS_PREFIX):
            continue
        if name == b"transfer-encoding":
            continue  # how it is framed on our side is found out anew
        if name == b"set-cookie":
            kept = _own_cookie(value, cookie)
            passed += [] if kept is None else [(name, kept)]
        else:
            passed.append((name, value))
    chunked = bool(values(headers, b"transfer-encoding"))
    if chunked:  # it overrules a length, which must not come through beside it
        passed = [(name, value) for name, value in passed if name != b"content-length"]
    if switching:
        passed += [(b"connection", b"Upgrade"), (b"upgrade", WEBSOCKET)]
    return passed


def cookies(headers: Headers, name: str) -> list[str]:
    """Every value of the cookie of this name: a browser may send several."""
    found = []
    for pair in _pairs(headers):
        given, equals, value = pair.partition(b"=")
        if equals and given.strip() == name.encode():
            found.append(value.strip().decode("latin-1"))
    return found


def _end_to_end(headers: Headers) -> Headers:
    listed = words(headers, b"connection") - _NEVER_DROPPED
    return [(name, value) for name, value in headers if name not in _HOP and name not in listed]


def _pairs(headers: Headers) -> list[bytes]:
    return [pair for value in values(headers, b"cookie") for pair in value.split(b";")]


def _other_cookies(headers: Headers, name: str) -> bytes:
    ours = name.lower().encode()
    kept = [pair.strip() for pair in _pairs(headers)]
    return b"; ".join(each for each in kept if each and _cookie_name(each) != ours)


def _own_cookie(value: bytes, ours: str) -> bytes | None:
    """A Set-Cookie for the pod's own name alone: None for one that would stand in for ours."""
    pair, *attributes = value.split(b";")
    if _cookie_name(pair) == ours.lower().encode():
        return None
    kept = [each for each in attributes if each.partition(b"=")[0].strip().lower() != b"domain"]
    return b";".join([pair, *kept])


def _cookie_name(pair: bytes) -> bytes:
    """In small letters. A cookie without a name comes back as its bare value, so "=ours=x" would
    come back as ours."""
    return pair.lstrip(b" \t=").partition(b"=")[0].strip().lower()
