"""What the frame of every page asks of an organization, in one query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, Subquery

from kernel.clock import AppNow
from marketplace.models import FundsWatch, Organization, Provider


@dataclass(frozen=True)
class Glance:
    """at: the platform's clock. grace_until: until when data is kept without money, None where
    there is money. supplies: whether it ever applied as an owner of cards."""

    at: datetime
    grace_until: datetime | None
    supplies: bool


def glance(organization_id: UUID) -> Glance:
    """Raises Organization.DoesNotExist."""
    watch = FundsWatch.objects.filter(pk=OuterRef("pk")).values("grace_until")
    applied = Provider.objects.filter(organization_id=OuterRef("pk"))
    row = (
        Organization.objects.filter(pk=organization_id)
        .annotate(at=AppNow(), grace_until=Subquery(watch), supplies=Exists(applied))
        .values_list("at", "grace_until", "supplies")
        .get()
    )
    return Glance(*row)
