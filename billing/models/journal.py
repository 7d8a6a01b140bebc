"""Months of the ledger that are closed for good."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id


class MonthLock(models.Model):
    """Locks a month and all before it: the database refuses transactions dated in them.

    First only the row is written; digest, hours and totals follow once no transaction is under way
    that began before it. hours: per hour that has any, [begin, transactions, SHA-256 of its lines].
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    month = models.DateField(unique=True)  # its first day
    actor = models.CharField(max_length=100)
    at = models.DateTimeField(db_default=AppNow())
    xact = models.BigIntegerField()  # PostgreSQL's id of the transaction that wrote this row
    chart = models.JSONField()  # kind of account -> [number, name], as it was then
    transactions = models.BigIntegerField(null=True)
    totals = models.JSONField(null=True)  # number -> [debit, credit] in micro-units
    hours = models.JSONField(null=True)
    digest = models.CharField(max_length=64, null=True)

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"
