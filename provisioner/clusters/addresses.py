"""Which addresses a provider's API server may live at. Resolving is the only network use.

A hostile provider would point us at our own metadata service or database. So: https, no userinfo,
a port allow-list, and every address the name resolves to is checked, once when a cluster is
registered and again at each connect, where the checked address itself is connected to. Texts are
never judged as addresses: decimal, octal and Unicode spellings all end as what they resolve to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from kernel.errors import InvalidRequest, Refusal
from provisioner.contracts import AddressBinding

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]
PORTS = frozenset({443, 6443})

# Never reached, whatever a binding says: they lead to the machine's own provider (metadata
# services), to neighbours behind carrier NAT, to groups, or hide another address inside.
_ALWAYS_REFUSED = tuple(
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
_ONLY_BOUND = tuple(
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


class ForbiddenAddress(Exception):
    """The address must not be connected to; the message says why."""


@dataclass(frozen=True)
class Target:
    """A checked ``https://host:port``."""

    host: str
    port: int


def parse_target(api_url: str, binding: AddressBinding) -> Target:
    """Host and port of an API server's URL; raises InvalidRequest or Refusal. No network."""
    if len(api_url) > 300 or not api_url.isascii() or any(ord(c) <= 32 for c in api_url):
        raise InvalidRequest({"api_url": ["write it as https://host:port in plain ASCII"]})
    try:
        parts = urlsplit(api_url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest({"api_url": ["not a URL: write it as https://host:port"]}) from error
    if parts.scheme != "https":
        raise _refusal("Only https addresses are used: the token would travel in the clear.")
    if "@" in parts.netloc:
        raise _refusal("The address must not hold a user name or password.")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidRequest({"api_url": ["write it as https://host:port, without a path"]})
    if "\\" in api_url or "%" in parts.netloc:
        raise InvalidRequest({"api_url": ["write it as https://host:port"]})
    port = 443 if port is None else port
    if port not in PORTS and port not in binding.ports:
        allowed = ", ".join(str(number) for number in sorted(PORTS | set(binding.ports)))
        raise _refusal(f"Port {port} is not allowed; allowed are {allowed}.")
    return Target(parts.hostname, port)


def check_ip(text: str, port: int, binding: AddressBinding) -> None:
    """Raise ForbiddenAddress unless ``text`` (a resolved address) may be connected to."""
    ip = _unwrapped(text)
    if any(ip in network for network in _ALWAYS_REFUSED if network.version == ip.version):
        raise ForbiddenAddress(f"{ip} is in a range that is never used for an API server.")
    bound = _in_binding(ip, binding.networks) and port in (set(binding.ports) | PORTS)
    if any(ip in network for network in _ONLY_BOUND if network.version == ip.version):
        if not bound or port not in binding.ports:
            raise ForbiddenAddress(
                f"{ip} port {port} is private: staff must bind this provider to that network."
            )
        return
    if port not in PORTS and not bound:
        raise ForbiddenAddress(f"Port {port} is bound to other networks than {ip}.")
    if not ip.is_global:
        raise ForbiddenAddress(f"{ip} is not a public address.")


def check_address(
    *, api_url: str, binding: AddressBinding, resolver: Resolver | None = None
) -> None:
    """Refuse a URL that must not be used; a name that does not resolve is no reason to refuse.

    Outside a transaction (it resolves). Raises Refusal("address_forbidden") or InvalidRequest.
    """
    target = parse_target(api_url, binding)
    try:
        found = (resolver or resolve)(target.host, target.port)
    except OSError:
        return  # stored and shown as unreachable; checked again at each connect
    for address in found:
        try:
            check_ip(address, target.port, binding)
        except ForbiddenAddress as error:
            raise _refusal(str(error)) from error


def usable(target: Target, binding: AddressBinding, addresses: Iterable[str]) -> list[str]:
    """``addresses`` unchanged if all may be used; raises ForbiddenAddress if one may not."""
    checked = list(addresses)
    for address in checked:
        check_ip(address, target.port, binding)
    return checked


def resolve(host: str, port: int) -> list[str]:
    """Every address ``host`` has, in the system's order; raises OSError (socket.gaierror)."""
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(str(error)) from error
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def parse_binding(binding: AddressBinding) -> AddressBinding:
    """The binding in canonical form; raises InvalidRequest for texts that are no networks."""
    networks = []
    for text in binding.networks:
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError as error:
            raise InvalidRequest({"networks": [f"{text!r} is not a network"]}) from error
    if any(not 1 <= port <= 65535 for port in binding.ports):
        raise InvalidRequest({"ports": ["ports are between 1 and 65535"]})
    return AddressBinding(tuple(networks), tuple(sorted(set(binding.ports))))


def _unwrapped(text: str) -> Address:
    """The address itself, or the IPv4 one that an IPv6 form only wraps."""
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


def _in_binding(ip: Address, networks: Iterable[str]) -> bool:
    parsed = (ipaddress.ip_network(text, strict=False) for text in networks)
    return any(ip in network for network in parsed if network.version == ip.version)


def _refusal(why: str) -> Refusal:
    return Refusal("address_forbidden", f"This API server address is not allowed. {why}")
