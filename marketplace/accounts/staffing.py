"""How many the staff are: what decides whether there is a second person."""

from __future__ import annotations

from marketplace.models import User


def alone() -> bool:
    """Whether the staff have exactly one member. Whoever has no second factor yet counts: they can
    switch it on, and approve."""
    return User.objects.filter(is_staff=True, is_active=True).count() == 1
