"""Mails about an organization's money and rentals, to those of its people who look after them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import Q

from marketplace.accounts.tokens import order_notice
from marketplace.models import EmailToken, Membership

_READERS = (Membership.Role.OWNER, Membership.Role.BILLING)


def tell(organization_id: UUID, *, subject: str, text: str, also: Collection[UUID] = ()) -> None:
    """Order one mail to each owner and bookkeeper, and to these members of it; in the caller's
    transaction."""
    readers = Membership.objects.select_related("user").filter(
        Q(role__in=_READERS) | Q(user__in=also), organization_id=organization_id
    )
    for membership in readers.order_by("id"):
        order_notice(membership.user, EmailToken.Purpose.MONEY, about=f"{subject}\n{text}")
