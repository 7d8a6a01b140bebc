"""What a person orders about an organization's money, and the second person that much needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.db import models
from django.db.models import F, Model, Q, QuerySet

from kernel.clock import AppNow
from kernel.ids import new_id

M = TypeVar("M", bound=Model)

# Long enough that whoever reads the audit rows, or the mailbox of the platform, sees it coming.
ALONE = timedelta(days=1)


def newest(
    rows: QuerySet[M], *, org_ref: UUID | None, after: UUID | None, limit: int
) -> QuerySet[M]:
    """A page of rows, newest first; ``after`` is the last id of the page before."""
    if org_ref is not None:
        rows = rows.filter(org_ref=org_ref)
    if after is not None:
        rows = rows.filter(id__lt=after)
    return rows.order_by("-id")[:limit]


class Ordered(models.Model):
    """ordered_by, approved_by, declined_by: who acted, as in the audit trail. The database refuses
    an approval by whoever ordered it, unless ``alone``: there was nobody else, and a day went by.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField(db_index=True)
    amount_micro = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    ordered_by = models.CharField(max_length=100)
    needs_second = models.BooleanField()
    approved_by = models.CharField(max_length=100, default="", blank=True)
    approved_at = models.DateTimeField(null=True)
    alone = models.BooleanField(default=False, db_default=False)
    declined_by = models.CharField(max_length=100, default="", db_default="", blank=True)
    declined_at = models.DateTimeField(null=True)
    declined_for = models.CharField(max_length=500, default="", db_default="", blank=True)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(approved_by="", approved_at__isnull=True, alone=False)
                | (
                    Q(needs_second=True, approved_at__isnull=False)
                    & (
                        (Q(alone=False) & ~Q(approved_by=F("ordered_by")))
                        | Q(
                            alone=True,
                            approved_by=F("ordered_by"),
                            approved_at__gte=F("created_at") + ALONE,
                        )
                    )
                ),
                name="billing_%(class)s_second",
            ),
            models.CheckConstraint(
                condition=Q(declined_by="", declined_at__isnull=True)
                | (
                    Q(needs_second=True, approved_by="", declined_at__isnull=False)
                    & ~Q(declined_by="")
                ),
                name="billing_%(class)s_declined",
            ),
        ]

    @property
    def waits(self) -> bool:
        """A second person has to approve it first; nothing has moved."""
        return self.needs_second and not (self.approved_by or self.declined_by)
