"""Who has to be let in is placed only where somebody can get in: in clusters that have a relay.

A rental has to be entered when it has SSH keys, or ports that get names. Where the platform has no
gateway nothing of this holds: keys and ports are kept and lead nowhere (docs/access.md).

What had cards and mounts volumes is placed where they are, way in or not: its data is there, and
only its own program may still reach it. Refusing that would keep the data from its owner because
of what another left undone. It is told in a sentence instead. What has no volumes leaves nothing
behind in a data centre and is placed like a new order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kernel.errors import InvalidRequest
from marketplace.accounts.ports import HTTP, TCP, Port
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.search import alternatives
from marketplace.catalog.stock import has_way_in
from marketplace.models import Offer, Rental
from marketplace.rentals.port_views import own
from marketplace.volumes.place import Place
from provisioner.facade import access

_KEYS: Final = 'nobody can get in to machines of this offer; send "ssh": false to rent without'
_PORTS: Final = "nobody can reach ports of machines of this offer"
_SHUT: Final = " Nobody can get in to it: the cluster that has its volumes has no way in yet."


def needed(keys: Sequence[str], ports: Sequence[Port]) -> bool:
    """Whether somebody has to get in to what is ordered."""
    return access.has_gateway() and (bool(keys) or are_named(ports))


def needed_by(rental: Rental) -> bool:
    """The same of a rental, as it is now: keys and ports may have been changed since its order."""
    return needed(rental.ssh_keys, own(rental))


def asked(rental: Rental, place: Place) -> bool:
    """Whether its next placement asks for a way in; ``place``: where its volumes bind it to."""
    had_cards = rental.wanted is None
    return needed_by(rental) and not (had_cards and place.cluster_ids)


def admit(offer: Offer, gpus: int, *, keys: Sequence[str], ports: Sequence[Port]) -> None:
    """Raise InvalidRequest (ssh, ports) with alternatives when a quoted offer has no way in."""
    if not needed(keys, ports) or not is_shut(offer):
        return
    fields = {"ssh": [_KEYS]} if keys else {}
    if are_named(ports):
        fields["ports"] = [_PORTS]
    refusal = InvalidRequest(
        fields,
        "The owner of these cards has not set up a way in yet, so nobody could get in to the "
        'machine. Nothing was rented. Take an offer whose "ssh" is true, or order without keys '
        '("ssh": false) and without ports.',
    )
    query = OfferQuery(accelerator=(offer.group.accelerator,), gpus=gpus, ssh=True)
    refusal.extra["alternatives"] = alternatives(query, besides=offer.id)
    raise refusal


def caveat(rental: Rental, offer: Offer) -> str:
    """What the renter reads besides when it was placed where nobody can get in, or nothing."""
    return _SHUT if needed_by(rental) and is_shut(offer) else ""


def is_shut(offer: Offer) -> bool:
    """Whether nobody gets in to machines of the loaded offer, on a platform that lets people in."""
    return access.has_gateway() and not has_way_in(offer)


def is_closed() -> bool:
    """Whether this platform lets nobody in to any machine: keys are kept and open nothing."""
    return not access.has_gateway()


def are_named(ports: Sequence[Port]) -> bool:
    """Whether there are any that get names, or numbers for raw TCP, on this platform."""
    gets = {HTTP: access.names() is not None, TCP: access.raw_host() is not None}
    return any(gets[port.protocol] for port in ports)
