"""Which addresses a name that others gave us may lead to. Resolving is the only network use.

A stranger's URL would point us at our own metadata service or database. Texts are never judged as
addresses: decimal, octal and Unicode spellings all end as what they resolve to, and every address
that a name resolves to is judged, when the URL is given and again at each connect. Who may use
what besides public addresses is for the caller to say; some ranges are refused whoever asks.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from enum import Enum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], list[str]]


class Reach(Enum):
    """Where an address leads, as far as it matters for connecting to it."""

    NEVER = "never"  # refused whoever asks
    PRIVATE = "private"  # only where somebody we trust named the network
    ODD = "odd"  # neither public nor in a list of ours
    PUBLIC = "public"


class ForbiddenAddress(Exception):
    """The address must not be connected to; the message says why."""


# They lead to the machine's own provider (metadata services), to neighbours behind carrier NAT, to
# groups, or hide another address inside.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/128",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fd00:ec2::/32",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)


def unwrapped(text: str) -> Address:
    """The address itself, or the IPv4 one that an IPv6 form only wraps; ForbiddenAddress."""
    try:
        ip = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError as error:
        raise ForbiddenAddress(f"{text[:60]!r} is not an address.") from error
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in ipaddress.IPv6Network("::/96") and int(ip) > 1:
            return ipaddress.IPv4Address(int(ip))
    return ip


def reach_of(ip: Address) -> Reach:
    """Where an unwrapped address leads. ``is_global`` alone calls some of the worst public."""
    if is_within(ip, _NEVER):
        return Reach.NEVER
    if is_within(ip, _PRIVATE):
        return Reach.PRIVATE
    return Reach.PUBLIC if ip.is_global else Reach.ODD


def is_within(ip: Address, networks: Iterable[Network]) -> bool:
    """Whether one of ``networks`` holds the address."""
    return any(ip in network for network in networks if network.version == ip.version)


def resolve(host: str, port: int) -> list[str]:
    """Every address ``host`` has, in the system's order; raises OSError (socket.gaierror)."""
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(str(error)) from error
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


# Resolving has no timeout in libc: a few threads of its own, and whoever waits too long gives up.
# Who asks for names that many strangers chose brings threads of its own, so that a name server
# that hangs holds up nobody else.
RESOLVERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="dns")


def resolve_within(
    seconds: float,
    host: str,
    port: int,
    *,
    resolver: Resolver = resolve,
    threads: ThreadPoolExecutor = RESOLVERS,
) -> list[str]:
    """The same, at least one address and in time; raises OSError (socket.gaierror)."""
    job: Future[list[str]] = threads.submit(resolver, host, port)
    try:
        found = job.result(seconds)
    except FutureTimeout as error:
        job.cancel()
        raise socket.gaierror(socket.EAI_AGAIN, "resolving took too long") from error
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return found
