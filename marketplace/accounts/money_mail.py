"""Mails about an organization's money, to those of its people who look after it."""

from __future__ import annotations

from uuid import UUID

from marketplace.accounts.tokens import order_notice
from marketplace.models import EmailToken, Membership

_READERS = (Membership.Role.OWNER, Membership.Role.BILLING)


def tell(organization_id: UUID, *, subject: str, text: str) -> None:
    """Order one mail to each owner and bookkeeper; in the caller's transaction."""
    readers = Membership.objects.select_related("user").filter(
        organization_id=organization_id, role__in=_READERS
    )
    for membership in readers.order_by("id"):
        order_notice(membership.user, EmailToken.Purpose.MONEY, about=f"{subject}\n{text}")
