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
