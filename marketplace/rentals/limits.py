"""What an organization may have at a time: cards, and spending per hour."""

from __future__ import annotations

from django.db.models import Sum

from kernel.errors import Refusal
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.accounts.spend_limit import spend_limit
from marketplace.models import Organization, Rental
from marketplace.rentals import budgets, dunning
from marketplace.rentals.state import COMMITTED


def check_limits(rental: Rental) -> None:
    """Raise quota_exceeded, spend_rate_limit or budget_exceeded when this rental, already stored
    and its hold taken, is too much; payment_requires_action while an invoice is long overdue."""
    organization_id = rental.organization_id
    dunning.check(organization_id)
    budgets.check(rental)
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
    allowed = spend_limit(limits)
    if committed["burn"] > allowed.per_hour_micro:
        raises = allowed.raises_at
        later = f"It rises on {rfc3339(raises)}. " if raises else ""
        raise Refusal(
            "spend_rate_limit",
            f"Your organization may spend {format_micro(allowed.per_hour_micro)} {CURRENCY} "
            f"per hour and would spend {format_micro(committed['burn'])}. Nothing was rented. "
            f"{later}End a rental or ask support for a higher limit.",
            limit=format_micro(allowed.per_hour_micro),
            needed=format_micro(committed["burn"]),
            currency=CURRENCY,
            raises_at=rfc3339(raises),
        )
