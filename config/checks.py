"""System checks that stop a process with a sentence instead of failing later."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def stripe_mode(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """A live key with a base URL that is not Stripe's would send card data elsewhere."""
    if settings.STRIPE_API_KEY.startswith("sk_live_") and not settings.STRIPE_API_BASE.startswith(
        "https://api.stripe.com"
    ):
        return [
            Error(
                "A live Stripe key may only be used with Stripe's own address.", id="gpuyard.E001"
            )
        ]
    return []


@register()
def tax_point(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Whoever adds tax has to say whose: an invoice without the seller's tax id is none, and a
    misspelt word would mean that no tax is ever added."""
    if settings.GPUYARD_TAX_POINT not in {"none", "topup", "use"}:
        return [
            Error("GPUYARD_TAX_POINT must be none, topup or use.", id="gpuyard.E002"),
        ]
    if settings.GPUYARD_TAX_POINT != "none" and not settings.GPUYARD_SELLER_TAX_ID:
        return [
            Error(
                "GPUYARD_TAX_POINT adds tax: GPUYARD_SELLER_TAX_ID must name who owes it.",
                id="gpuyard.E003",
            )
        ]
    return []


@register()
def ports_domain(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """What renters' machines serve must not be a page of ours, nor share a cookie with one: a
    browser gives a cookie of a host to all hosts below it, where that asks for it."""
    if settings.GPUYARD_PORTS_URL is None:
        return []
    scheme, domain, _port = settings.GPUYARD_PORTS_URL
    portal = urlsplit(settings.GPUYARD_BASE_URL)
    host = (portal.hostname or "").lower()
    found: list[CheckMessage] = []
    if domain == host or domain.endswith(f".{host}") or host.endswith(f".{domain}"):
        found.append(
            Error(
                "GPUYARD_PORTS_URL must be of a domain that is neither the portal's host nor above "
                "or below it: renters' pages would share cookies with the portal.",
                id="gpuyard.E004",
            )
        )
    if scheme == "http" and portal.scheme == "https":
        found.append(
            Error(
                "GPUYARD_PORTS_URL must be https where the portal is: tokens and cookies of "
                "machines would cross the net in clear.",
                id="gpuyard.E005",
            )
        )
    return found
