"""What an organization may have at a time: cards, and spending per hour."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Sum

from kernel.errors import Refusal
from kernel.money import CURRENCY, format_micro
from marketplace.models import Organization, Rental
from marketplace.rentals.state import COMMITTED


def check_limits(organization_id: UUID) -> None:
    """Raise quota_exceeded or spend_rate_limit when this rental, already counted, is too much."""
    limits = Organization.objects.get(id=organization_id)
    committed = Rental.objects.filter(
        organization=organization_id, ended_at=None, state__in=COMMITTED
    ).aggregate(gpus=Sum("gpus"), burn=Sum("price_micro_h"))
    if committed["gpus"] > limits.quota_gpus:
        raise Refusal(
            "quota_exceeded",
            f"Your organization may rent {limits.quota_gpus} GPUs at a time and would have "
            f"{committed['gpus']}. Nothing was rented. End a rental or ask support for more.",
            limit=limits.quota_gpus,
            needed=committed["gpus"],
        )
    if committed["burn"] > limits.spend_limit_micro_h:
        raise Refusal(
            "spend_rate_limit",
            f"Your organization may spend {format_micro(limits.spend_limit_micro_h)} {CURRENCY} "
            f"per hour and would spend {format_micro(committed['burn'])}. Nothing was rented. "
            "End a rental or ask support for a higher limit.",
            limit=format_micro(limits.spend_limit_micro_h),
            needed=format_micro(committed["burn"]),
            currency=CURRENCY,
            raises_at=None,
        )
