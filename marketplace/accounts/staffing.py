"""Who the staff are, and how many: what decides whether there is a second person."""

from __future__ import annotations

from marketplace.accounts.access import staff_actor
from marketplace.models import User


def alone() -> bool:
    """Whether the staff have exactly one member. Whoever has no second factor yet counts: they can
    switch it on, and approve."""
    return User.objects.filter(is_staff=True, is_active=True).count() == 1


def emails() -> dict[str, str]:
    """The staff's addresses by how audit rows name them: one reads them sooner than an id."""
    rows = User.objects.filter(is_staff=True)
    return {staff_actor(user): user.email for user in rows}
