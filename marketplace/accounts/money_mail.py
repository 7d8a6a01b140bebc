"""Mails whose words only their sender knows: about an organization's money, mostly.

Their rows stand in letters.EVENTS with all others: who reads them, and whether one may switch them
off.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import Q

from kernel.text import clean
from marketplace.accounts.letters import EVENTS, wants
from marketplace.accounts.phrases import Said, speaking, spoken
from marketplace.accounts.tokens import order_notice
from marketplace.models import EmailToken, Membership, User


def tell(
    organization_id: UUID, event: str, *, subject: Said, text: Said, also: Collection[UUID] = ()
) -> None:
    """Order one mail to each reader of the event, and to these members, in their language; in the
    caller's transaction."""
    row = EVENTS[event]
    readers = Membership.objects.select_related("user").filter(
        Q(role__in=row.readers) | Q(user__in=also), organization_id=organization_id
    )
    for membership in readers.order_by("id"):
        if wants(membership.user, row.kind):
            order_said(membership.user, EmailToken.Purpose.MONEY, subject=subject, text=text)


def order_said(user: User, purpose: EmailToken.Purpose, *, subject: Said, text: Said) -> None:
    """Order one mail in these words, in the person's language; in the caller's transaction."""
    with speaking(user):
        about = f"{clean(spoken(subject), limit=150)}\n{spoken(text)}"
    order_notice(user, purpose, about=about)
