"""Which addresses a provider's API server may live at. Resolving is the only network use.

A hostile provider would point us at our own metadata service or database. So: https, no userinfo,
a port allow-list, and every address the name resolves to is checked, once when a cluster is
registered and again at each connect, where the checked address itself is connected to. What an
address is worth is kernel.addresses; here is what a provider's binding adds.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from kernel.addresses import (
    ForbiddenAddress,
    Reach,
    Resolver,
    is_within,
    reach_of,
    resolve,
    unwrapped,
)
from kernel.errors import InvalidRequest, Refusal
from provisioner.contracts import AddressBinding

PORTS = frozenset({443, 6443})


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
    ip = unwrapped(text)
    reach = reach_of(ip)
    if reach is Reach.NEVER:
        raise ForbiddenAddress(f"{ip} is in a range that is never used for an API server.")
    networks = [ipaddress.ip_network(name, strict=False) for name in binding.networks]
    bound = is_within(ip, networks) and port in (set(binding.ports) | PORTS)
    if reach is Reach.PRIVATE:
        if not bound or port not in binding.ports:
            raise ForbiddenAddress(
                f"{ip} port {port} is private: staff must bind this provider to that network."
            )
        return
    if port not in PORTS and not bound:
        raise ForbiddenAddress(f"Port {port} is bound to other networks than {ip}.")
    if reach is not Reach.PUBLIC:
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


def _refusal(why: str) -> Refusal:
    return Refusal("address_forbidden", f"This API server address is not allowed. {why}")
