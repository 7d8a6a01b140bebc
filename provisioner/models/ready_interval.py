"""Evidence for money: [opened_at, closed_at) in which the GPUs were proven ready."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from provisioner.models.instance import Instance


class ReadyInterval(models.Model):
    """Opened and closed by observations only, except that a request to end closes it at once.

    While it is open it is good up to the cluster's last positive observation, so thousands of
    running pods cost one row per list. ``good_until`` is that limit once it is closed: an end
    request closes at its own time, yet only proven seconds are charged. It may still rise to
    ``closed_at`` when the answer to the deletion shows the pod unchanged; ``final`` says that it
    cannot any more.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="intervals")
    cluster = models.ForeignKey(
        "provisioner.Cluster", on_delete=models.PROTECT, related_name="intervals", db_index=False
    )
    rental_ref = models.UUIDField()
    gpus = models.PositiveIntegerField()
    pod_uid = models.CharField(max_length=64)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    close_reason = models.CharField(max_length=40, null=True)
    proof = models.JSONField(default=dict)
    good_until = models.DateTimeField(null=True)
    final = models.BooleanField(default=False)
    charged_to = models.DateTimeField()  # whole seconds; the opening rounded up at first
    settled = models.BooleanField(default=False)  # final and charged to its end
    # Closed by a fault, and the interruption that began there is not over for the books.
    interrupts = models.BooleanField(db_default=False, default=False)
    # Closed for want of an observation that nobody here asked for: the gap is of our making.
    unasked = models.BooleanField(db_default=False, default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["instance"],
                condition=Q(closed_at__isnull=True),
                name="readyinterval_one_open",
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True) | Q(closed_at__gte=F("opened_at")),
                name="readyinterval_forward",
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True, good_until__isnull=True, final=False)
                | Q(good_until__isnull=False, good_until__lte=F("closed_at")),
                name="readyinterval_good",
            ),
            models.CheckConstraint(
                condition=Q(settled=False) | Q(final=True), name="readyinterval_settled_final"
            ),
        ]
        indexes = [
            models.Index(
                fields=["charged_to"], name="readyinterval_unsettled", condition=Q(settled=False)
            ),
            models.Index(
                fields=["closed_at"],
                name="readyinterval_not_final",
                condition=Q(final=False, closed_at__isnull=False),
            ),
            models.Index(
                fields=["good_until"],
                name="readyinterval_to_settle",
                condition=Q(final=True, settled=False),
            ),
            models.Index(
                fields=["cluster"], name="readyinterval_open", condition=Q(closed_at__isnull=True)
            ),
            models.Index(fields=["rental_ref"], name="readyinterval_rental"),
            models.Index(
                fields=["closed_at"], name="readyinterval_interrupts", condition=Q(interrupts=True)
            ),
        ]
