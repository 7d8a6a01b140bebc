"""What an organization, or one project of it, may spend in a calendar month (UTC)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization, Project


class Budget(PublicObject):
    """An amount per month with thresholds: ``[{"percent": 80, "action": "notify"}, ...]``.

    told_month and told_percents: what its people were told already, of which month.
    """

    kind = "budget"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="budgets")
    # Empty: all that the organization spends.
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="budgets"
    )
    amount_micro = models.BigIntegerField()
    thresholds = models.JSONField()
    told_month = models.DateTimeField(null=True)
    told_percents = ArrayField(models.PositiveSmallIntegerField(), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "project"], name="budget_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(amount_micro__gt=0), name="budget_amount_positive"
            ),
        ]
