"""Who is at the other end of a request, as far as that can be known."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from kernel.addresses import ForbiddenAddress, Reach, is_within, reach_of, unwrapped


def client_address(request: HttpRequest) -> str | None:
    """The address that a person pays from; None where it cannot be told from others.

    Behind a proxy everybody has the proxy's address. Only a proxy that GPUYARD_TRUSTED_PROXIES
    names is believed: the last forwarded address that is no such proxy's is the person's. Without
    it only a public address tells strangers apart, and bounds per address are not applied.
    """
    chain = [*request.headers.get("X-Forwarded-For", "").split(","), _peer(request)]
    for text in reversed(chain):
        try:
            address = unwrapped(text.strip())
        except ForbiddenAddress:
            return None
        if not is_within(address, settings.GPUYARD_TRUSTED_PROXIES):
            return str(address) if reach_of(address) is Reach.PUBLIC else None
    return None


def _peer(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))
