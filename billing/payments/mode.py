"""Which Stripe the platform is set to talk to. Settings only: no call, and never the key itself."""

from __future__ import annotations

from django.conf import settings

from billing.contracts import StripeMode

_OWN = "https://api.stripe.com"


def stripe_mode() -> StripeMode:
    """The kind of the key and whether the address is Stripe's own."""
    key: str = settings.STRIPE_API_KEY
    kinds = {"sk_live_": "live", "rk_live_": "live", "sk_test_": "test", "rk_test_": "test"}
    kind = next((kinds[start] for start in kinds if key.startswith(start)), "unknown")
    return StripeMode(kind=kind, own_address=settings.STRIPE_API_BASE.startswith(_OWN))
