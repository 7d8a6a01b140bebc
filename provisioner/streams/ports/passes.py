"""The cookie that lets a browser in to one port again, once it has shown a token or a grant. PURE.

Signed with a key of its own kind, made from the sealing key, and bound to rental, port, mode and
the token's version: it opens no other port, and nothing once the token was replaced or the mode
changed. It says until when it is good and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from provisioner.streams.ports.doors import TEAM, PortDoor

# A working day with a token. Team's is what a removed member may stay: each page that is opened
# after it asks the portal again, unseen.
TOKEN_SECONDS: Final = 12 * 3600
TEAM_SECONDS: Final = 3600
# Browsers take a name with this prefix from this very host alone, over https, for every path: no
# machine can set another's. Plain http, as in development, has no such names.
_SECURE_NAME, _PLAIN_NAME = "__Host-gpuyard", "gpuyard-port"
_PURPOSE: Final = b"gpuyard port cookie\0"


def cookie_key(sealing_key: bytes) -> bytes:
    return hmac.digest(sealing_key, _PURPOSE, hashlib.sha256)


def name_of(*, secure: bool) -> str:
    return _SECURE_NAME if secure else _PLAIN_NAME


def seconds_of(door: PortDoor) -> int:
    return TEAM_SECONDS if door.access_mode == TEAM else TOKEN_SECONDS


def made(door: PortDoor, *, key: bytes, now: float) -> str:
    """The cookie's value."""
    until = int(now) + seconds_of(door)
    return f"{until}.{_signature(door, until, key)}"


def until_of(text: str, door: PortDoor, *, key: bytes, now: float) -> int | None:
    """Until when this value opens the door, in Unix seconds; None when it does not."""
    stated, _, signature = text.partition(".")
    if not (text.isascii() and stated.isdigit() and len(stated) < 12):
        return None
    until = int(stated)
    if not hmac.compare_digest(signature, _signature(door, until, key)):
        return None
    return until if now < until else None


def header(door: PortDoor, *, key: bytes, now: float, secure: bool) -> str:
    """A Set-Cookie header. Lax: links from elsewhere lead in, forms and pictures do not."""
    value = made(door, key=key, now=now)
    words = [f"{name_of(secure=secure)}={value}", "Path=/", f"Max-Age={seconds_of(door)}"]
    return "; ".join([*words, *(["Secure"] if secure else []), "HttpOnly", "SameSite=Lax"])


def _signature(door: PortDoor, until: int, key: bytes) -> str:
    bound = f"{door.rental.hex} {door.port} {door.access_mode} {door.version} {until}"
    digest = hmac.digest(key, bound.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
