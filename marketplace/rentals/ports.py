"""Ports of a rental that have names or numbers: changed while its machine runs, linked to.

The machine itself is left alone (docs/access.md): what changes is a list that the gateway asks for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlencode

from django.conf import settings

from kernel.errors import InvalidRequest, NotFound
from kernel.grants import Grant, sign
from marketplace.accounts import audit, ports
from marketplace.accounts.access import Principal, get_visible
from marketplace.accounts.ports import TCP, TEAM, TOKEN, Given, Port
from marketplace.accounts.variables import Mistakes
from marketplace.catalog.templates import ports_of
from marketplace.models import Rental
from marketplace.rentals.port_views import own
from marketplace.rentals.state import ENDING
from marketplace.rentals.stop import illegal, lock_visible
from provisioner.contracts.access import ENTER_PATH, NamedPort, enter_verb
from provisioner.facade import access

_NO_PORT = "the rental has no such port"
_NO_LINK = "is for raw TCP and has no link: its address is in access.ports"
_NO_RAW = "tcp is not offered on this platform: leave the port out, or use http"
_NO_NAMES = "ports have no names on this platform"


def publish(rental: Rental) -> None:
    """In a transaction that has reserved a machine: its ports have names from now on."""
    named = [NamedPort(port.port, port.access_mode, port.protocol) for port in own(rental)]
    access.publish(rental_ref=rental.pk, ports=named)


def number(rental: Rental) -> None:
    """In a transaction that stores the rental's ports: those for raw TCP have numbers, for as long
    as it lives. Refusal no_free_port."""
    raw = [port.port for port in own(rental) if port.protocol == TCP]
    access.give_raw(rental_ref=rental.pk, ports=raw)


def unoffered(ports: Sequence[Port]) -> Mistakes:
    """Ports of a kind that this platform does not have."""
    if access.raw_host() is not None:
        return []
    return [
        (f"ports.{place}.protocol", _NO_RAW)
        for place, port in enumerate(ports)
        if port.protocol == TCP
    ]


def change_mistakes(rental: Rental, given: Sequence[Given]) -> Mistakes:
    """What is wrong with giving the rental these ports."""
    if found := ports.mistakes(given):
        return found
    template = ports_of(rental.template) if rental.template else ()
    wanted = ports.read(given)
    return ports.shell_mistakes(wanted, template) + unoffered(wanted)


def give(rental: Rental, given: Sequence[Given]) -> bool:
    """Exactly these from now on; whether that is a change. The caller holds the rental's lock, has
    looked for mistakes, and saves."""
    wanted = ports.read(given)
    if wanted == own(rental):
        return False
    rental.ports = [port.kept() for port in wanted]
    number(rental)
    publish(rental)
    return True


def link(*, acting: Principal, rental_id: str, port: int, replace: bool = False) -> str:
    """An address that opens the port for whoever has it; with ``replace`` those that were made
    before, of all the rental's ports, open nothing any more. Joins the caller's transaction.

    Raises NotFound, InvalidRequest, Refusal invalid_transition for a rental without a machine yet
    or that is ending.
    """
    rental = lock_visible(acting, rental_id)
    found = next((each for each in own(rental) if each.port == port), None)
    if found is None:
        raise InvalidRequest({"port": [_NO_PORT]})
    if found.protocol == TCP:
        raise InvalidRequest({"port": [_NO_LINK]})
    names = access.names()
    if names is None:
        raise InvalidRequest({"port": [_NO_NAMES]})
    if rental.state in ENDING:
        raise illegal(rental, "its ports lead nowhere any more")
    try:
        token = access.token(rental_ref=rental.pk, replace=replace)
    except NotFound as error:
        raise illegal(rental, "it has no machine yet") from error
    audit.record(
        acting=acting,
        action="rental.link",
        object=rental.public_id,
        organization_ref=rental.organization_id,
        details={"port": port, "replace": replace},
    )
    url = names.url(rental.pk, port)
    return f"{url}?{urlencode({'token': token})}" if found.access_mode == TOKEN else url


def enter(acting: Principal, rental_id: str, number: str, to: str) -> str:
    """Where a member is let in to a port of mode team: an address that is good for a minute.

    Raises NotFound for a rental that is not theirs and for another port.
    """
    rental = get_visible(Rental, acting, rental_id)
    modes = {str(each.port): each for each in own(rental)}
    names, port = access.names(), modes.get(number)
    if names is None or port is None or port.access_mode != TEAM:
        raise NotFound("port")
    grant = Grant(enter_verb(port.port), subject=rental.pk, owner=rental.organization_id)
    signed = sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time())
    query = urlencode({"grant": signed, "to": to})
    return f"{names.url(rental.pk, port.port).rstrip('/')}{ENTER_PATH}?{query}"
