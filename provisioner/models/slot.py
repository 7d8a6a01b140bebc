"""Slots (seats for one device on a node) and the holds on them.

Exclusivity is the schema's: a partial unique index on the open hold of a slot, and an exclusion
constraint over (slot, time range) that also keeps closed holds apart (see the first migration).
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.clock import AppNow
from kernel.ids import new_id
from provisioner.models.node import NodeShare


class Slot(models.Model):
    """A seat for one device. free -> held -> dirty (absence observed) -> free; or cordoned."""

    class State(models.TextChoices):
        FREE = "free"
        HELD = "held"
        DIRTY = "dirty"
        CORDONED = "cordoned"

    # The reason of a seat that its node offers no longer; kept for what was earned on it.
    GONE = "device_gone"
    # That of a seat which a probe keeps from renters for a minute.
    PROBED = "benchmark"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    share = models.ForeignKey(
        NodeShare, on_delete=models.PROTECT, related_name="slots", db_index=False
    )
    number = models.PositiveIntegerField()  # seat on the node, not a device index
    device_uid = models.CharField(max_length=100, null=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.FREE)
    reason = models.CharField(max_length=60, default="")  # why cordoned
    free_at = models.DateTimeField(null=True)  # when a dirty or cordoned slot is looked at again
    last_to = models.DateTimeField(null=True)  # end of its last hold
    retiring = models.BooleanField(default=False)  # the node offers fewer devices now
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)  # first listed

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["share", "number"], name="slot_once"),
            models.CheckConstraint(
                condition=Q(state__in=["free", "held", "dirty", "cordoned"]),
                name="slot_state_known",
            ),
        ]
        indexes = [
            models.Index(fields=["share", "number"], name="slot_free", condition=Q(state="free")),
            models.Index(
                fields=["free_at"], name="slot_returning", condition=Q(free_at__isnull=False)
            ),
        ]


class Hold(models.Model):
    """A slot bound to an instance for [from_ts, to_ts), by the database's clock."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slot = models.ForeignKey(Slot, on_delete=models.PROTECT, related_name="holds", db_index=False)
    instance = models.ForeignKey(
        "provisioner.Instance", on_delete=models.PROTECT, related_name="holds", db_index=False
    )
    rental_ref = models.UUIDField()
    from_ts = models.DateTimeField()
    to_ts = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(to_ts__isnull=True), name="hold_one_open"
            ),
            models.CheckConstraint(
                condition=Q(to_ts__isnull=True) | Q(to_ts__gte=F("from_ts")), name="hold_forward"
            ),
        ]
        indexes = [models.Index(fields=["instance"], name="hold_instance")]
