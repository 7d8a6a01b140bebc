"""Which addresses a webhook may be sent to. Resolving a name is the only network use.

An endpoint's URL is a stranger's wish to have us connect somewhere. So: https, no user name, no
fragment, port 443 or one above 1023 (below live mail, SSH and other servers that must not get our
bytes), and public addresses only, checked when the URL is given and again at each sending, where
the checked address itself is connected to. An operator of an in-house installation may name
further networks (GPUYARD_WEBHOOK_NETWORKS); metadata, link-local and carrier ranges stay refused.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from kernel.addresses import (
    ForbiddenAddress,
    Reach,
    Resolver,
    is_within,
    reach_of,
    resolve,
    resolve_within,
    unwrapped,
)
from kernel.errors import InvalidRequest, Refusal

MAX_URL: Final = 500
# How long whoever gives a URL waits for its name to resolve.
_RESOLVE_SECONDS: Final = 3.0
# Names that tenants chose: their slow name servers must not hold up those of clusters.
RESOLVERS: Final = ThreadPoolExecutor(max_workers=16, thread_name_prefix="webhook-dns")


@dataclass(frozen=True)
class Receiver:
    """A parsed ``https://host:port`` and what follows it."""

    host: str
    port: int
    target: str  # path and query, as the request line has them


def parse(url: str) -> Receiver:
    """The parts of a URL; raises InvalidRequest or Refusal address_forbidden. No network."""
    printable = url.isascii() and not any(ord(letter) <= 32 or ord(letter) == 127 for letter in url)
    if len(url) > MAX_URL or not printable or "\\" in url:
        raise _wrong(f"write it as https://host/path in plain ASCII, at most {MAX_URL} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong("not a URL: write it as https://host/path") from error
    if parts.scheme != "https":
        raise _forbidden("Only https is used: what happened to your rentals is nobody else's.")
    if "@" in parts.netloc:
        raise _forbidden("It must not hold a user name or password; check the signature instead.")
    if not parts.hostname or "%" in parts.netloc or parts.fragment:
        raise _wrong("write it as https://host/path, without a fragment")
    port = 443 if port is None else port
    if port != 443 and port < 1024:
        raise _forbidden(f"Port {port} belongs to other services; use 443 or one above 1023.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Receiver(parts.hostname, port, target)


def check_ip(text: str) -> None:
    """Raise ForbiddenAddress unless ``text`` (a resolved address) may be connected to."""
    ip = unwrapped(text)
    reach = reach_of(ip)
    if reach is Reach.PUBLIC:
        return
    if reach is Reach.NEVER or not is_within(ip, settings.GPUYARD_WEBHOOK_NETWORKS):
        raise ForbiddenAddress(f"{ip} is not a public address.")


def check(url: str, *, resolver: Resolver = resolve) -> None:
    """Refuse a URL that must not be used. Outside a transaction: it resolves the name.

    A name that does not resolve is no reason to refuse: it may be made later, and is checked again
    at each sending. Raises InvalidRequest or Refusal address_forbidden.
    """
    receiver = parse(url)
    try:
        found = resolve_within(
            _RESOLVE_SECONDS, receiver.host, receiver.port, resolver=resolver, threads=RESOLVERS
        )
    except OSError:
        return
    for address in found:
        try:
            check_ip(address)
        except ForbiddenAddress as error:
            raise _forbidden(str(error)) from error


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest({"url": [why]})


def _forbidden(why: str) -> Refusal:
    return Refusal(
        "address_forbidden",
        f"This webhook address is not allowed. {why} Nothing was stored. Give another address.",
    )
