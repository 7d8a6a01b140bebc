"""System checks that stop a process with a sentence instead of failing later."""

from __future__ import annotations

from typing import Any

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
