"""Ports of a rental that have names, as API and portal show them. No token is among it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marketplace.accounts.ports import JUPYTER, TCP, Port
from marketplace.models import Rental
from provisioner.contracts.access import PortsSeen
from provisioner.facade import access


def own(rental: Rental) -> tuple[Port, ...]:
    return tuple(Port(**one) for one in rental.ports)


def describe(rental: Rental, seen: PortsSeen | None) -> list[dict[str, Any]]:
    """The ports as the API shows them. state: what the machine's reporter said last."""
    told = seen.listening if seen else None
    shown = []
    for port in own(rental):
        state = None if told is None else ("open" if port.port in told else "closed")
        url = _address(rental, port, seen) if seen and seen.reachable else None
        shown.append({**port.kept(), "url": url, "state": state})
    return shown


def _address(rental: Rental, port: Port, seen: PortsSeen) -> str | None:
    """None where the platform has no such addresses."""
    if port.protocol != TCP:
        names = access.names()
        return names.url(rental.pk, port.port) if names is not None else None
    host, number = access.raw_host(), seen.raw.get(port.port)
    return f"tcp://{host}:{number}" if host and number else None


def jupyter(shown: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Of described ports the one that is called so."""
    found = next((port for port in shown if port["name"] == JUPYTER), None)
    return {"port": found["port"], "url": found["url"]} if found else None
